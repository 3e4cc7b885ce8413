// Attribution, logit lens, ablation and neighbors: colored text and tables.

function attributionView(data) {
  const found = data.attributions, body = make("div", { id: "attribution-text" });
  const choose = (place) => body.replaceChildren(...attributed(data, found[place]));
  choose(0);
  const names = found.map((each) => shown(each.name)
    + (each.place === null ? "" : ` (place ${each.place})`)
    + (each.probability === null ? "" : ` p = ${number(each.probability)}`));
  return section("attribution", "Where the answer comes from",
    "Integrated gradients of a score: orange tokens raise it, blue ones lower it, compared with "
    + (found[0].baseline ? `${found[0].baseline} in the place of every token that is not special.`
      : "embeddings of zeros."),
    choice(names, choose, 0, "what is explained"), body);
}

function attributed(data, found) {
  const sides = [["", data.tokens]];
  if (data.target_tokens.length) {
    sides[0][0] = "what the encoder reads";
    sides.push(["what the decoder has written before", data.target_tokens]);
  }
  const most = Math.max(...found.tokens.map(Math.abs));
  const parts = [];
  let begin = 0;
  for (const [title, tokens] of sides) {
    if (title) parts.push(make("div", { class: "side" }, title));
    const start = begin;
    parts.push(make("div", { class: "chips" }, ...tokens.map((token, place) => {
      const value = found.tokens[start + place];
      return chip(token, { color: diverging(value, most),
        tip: `${shown(token)} (${place}): ${signed(value, 4)}` });
    })));
    begin += tokens.length;
  }
  const what = found.score === "logit" ? "value" : "log-probability";
  const sum = found.tokens.reduce((total, value) => total + value, 0);
  parts.push(make("p", { class: "soft" }, `${what} ${number(found.value)}, of the baseline `
    + `${number(found.baseline_value)}; attributions sum to ${signed(sum)}; completeness error `
    + `${number(found.completeness_error, 4)} with ${found.num_steps} steps`));
  if (!found.is_complete) {
    parts.push(make("p", { class: "warning" }, "These attributions miss the score by more than 5 %: "
      + "the score is too rough between baseline and text. Take more steps, or trust them little."));
  }
  return parts;
}

const LENS_SHADES = {
  "probability of the first": (lens, layer, row) => lens.probabilities[layer][row][0],
  "rank of the target": (lens, layer, row) => 1 / lens.target_ranks[layer][row],
  "entropy": (lens, layer, row) => {
    const most = Math.max(...lens.entropies.flat(), 1e-9);
    return 1 - lens.entropies[layer][row] / most;
  },
};

function lensView(data) {
  const lens = data.lens, table = make("div", { class: "scroll", id: "lens-table" });
  const modes = Object.keys(LENS_SHADES);
  const choose = (mode) => table.replaceChildren(lensTable(lens, modes[mode]));
  choose(0);
  return section("lens", "Logit lens",
    "What the head would say after each layer, the last on top. The stronger, the surer. Underlined: "
    + "the first is the target, which is the token that follows (or stands) there in the text, or "
    + "the model's own answer. Point at a cell for more.",
    make("div", { class: "row" }, make("span", { class: "soft" }, "color:"),
      choice(modes, choose, 0, "color")), table);
}

function lensTable(lens, mode) {
  const name = (column) => shown(lens.names[column]);
  const head = make("tr", {}, make("th", { class: "layer" }, "reads"),
    ...lens.rows.map((token) => make("th", { title: token }, shown(token))));
  const aims = make("tr", {}, make("th", { class: "layer" }, "target"),
    ...lens.targets.map((column) => make("td", { title: lens.names[column] }, name(column))));
  const rows = [];
  for (let layer = lens.top.length - 1; layer >= 0; layer--) {
    const cells = lens.rows.map((token, row) => {
      const [first] = lens.top[layer][row];
      const cell = make("td", { class: first === lens.targets[row] ? "hit" : null }, name(first));
      cell.style.backgroundColor = shade("accent", 0.6 * LENS_SHADES[mode](lens, layer, row));
      withTip(cell, () => lensTip(lens, layer, row));
      return cell;
    });
    const title = layer ? `layer ${layer - 1}` : "embedding";
    rows.push(make("tr", {}, make("th", { class: "layer" }, title), ...cells));
  }
  return make("table", { class: "lens" }, make("thead", {}, head),
    make("tbody", {}, ...rows, aims));
}

function lensTip(lens, layer, row) {
  const lines = lens.top[layer][row].map((column, at) =>
    `${number(lens.probabilities[layer][row][at]).padStart(6)}  ${shown(lens.names[column])}`);
  lines.push(`target ${shown(lens.names[lens.targets[row]])}: rank `
    + `${lens.target_ranks[layer][row]}, log p ${number(lens.target_log_probabilities[layer][row])}`);
  lines.push(`entropy ${number(lens.entropies[layer][row])} nats`);
  return `after ${shown(lens.rows[row])}, ${layer ? `layer ${layer - 1}` : "embedding"}\n`
    + lines.join("\n");
}

function ablationView(data) {
  const { loss, labels, changes } = data.ablation;
  const every = Object.values(changes).flat(2), most = Math.max(...every.map(Math.abs));
  const parts = Object.entries(changes).map(([kind, layers]) => make("div", {},
    make("div", { class: "side" }, KIND_NAMES[kind]), heatTable(layers, most)));
  return section("ablation", "Head ablation",
    `How much the loss grows when one head gives zeros. Loss of the whole model: ${number(loss)} `
    + `nats a label, the labels being ${labels}. Orange: the model is worse without it; blue: `
    + "better.", ...parts);
}

function heatTable(layers, most) {
  const heads = make("tr", {}, make("th", { class: "layer" }),
    ...layers[0].map((_, head) => make("th", {}, `head ${head}`)));
  const rows = layers.map((values, layer) => make("tr", {},
    make("th", { class: "layer" }, `layer ${layer}`),
    ...values.map((value, head) => {
      const cell = make("td", {}, signed(value));
      cell.style.backgroundColor = diverging(value, most);
      withTip(cell, () => `layer ${layer}, head ${head}: ${signed(value, 5)} nats a label`);
      return cell;
    })));
  return make("div", { class: "scroll" }, make("table", { class: "heat" },
    make("thead", {}, heads), make("tbody", {}, ...rows)));
}

function neighborsView(data) {
  const rows = data.neighbors.map(({ token, near }) => make("tr", {},
    make("th", { class: "layer", title: token }, shown(token)),
    ...near.map((each) => {
      const cell = make("td", {}, shown(each.token), make("small", {},
        `  ${number(each.cosine, 2)}`));
      cell.style.backgroundColor = shade("accent", 0.5 * Math.max(0, each.cosine));
      withTip(cell, () => `${shown(each.token)} (id ${each.id}): cosine ${number(each.cosine, 4)}`);
      return cell;
    })));
  return section("neighbors", "Neighbors of the embeddings",
    "Tokens whose embeddings point in the most similar directions, with the cosine.",
    make("div", { class: "scroll" }, make("table", { class: "near" },
      make("tbody", {}, ...rows))));
}
