// Attention and rollout: a grid of small maps, one of them large, and its rows as colored text.

const KIND_NAMES = {
  self: "self-attention", encoder: "encoder", decoder: "decoder", cross: "decoder to encoder",
};

function tokensOf(data, kind) {
  const source = data.tokens, target = data.target_tokens;
  if (kind === "decoder") return [target, target];
  return kind === "cross" ? [target, source] : [source, source];
}

// a part of a packed array: rows x columns values that begin at `start`
function slice(unpacked, index) {
  const [rows, columns] = unpacked.shape.slice(-2);
  return { rows, columns, values: unpacked.values, start: index * rows * columns };
}

function valueAt(map, row, column) {
  return map.values[map.start + row * map.columns + column];
}

// opacity is the square root of the share of the map's largest: small ones are seen too
function drawMap(map) {
  const canvas = make("canvas", { width: map.columns, height: map.rows });
  const context = canvas.getContext("2d");
  const image = context.createImageData(map.columns, map.rows);
  const color = getComputedStyle(document.documentElement).getPropertyValue("--accent")
    .split(",").map(Number);
  const own = map.values.subarray(map.start, map.start + map.rows * map.columns);
  const most = own.reduce((largest, value) => Math.max(largest, value), 1e-9);
  own.forEach((value, i) => image.data.set([...color, 255 * Math.sqrt(value / most)], 4 * i));
  context.putImageData(image, 0, 0);
  return canvas;
}

function largeMap(map, [queries, keys], choose) {
  const size = Math.max(12, Math.min(26, Math.floor(640 / map.columns)));
  const across = keys.map((key) => make("span", { style: { width: `${size}px`,
    lineHeight: `${size}px` } }, shown(key)));
  const down = queries.map((query) => make("span", { style: { height: `${size}px`,
    lineHeight: `${size}px` } }, shown(query)));
  const field = make("div", { class: "field", style: { width: `${map.columns * size + 2}px`,
    height: `${map.rows * size + 2}px` } }, drawMap(map));
  const place = (event) => [Math.floor(event.offsetY / size), Math.floor(event.offsetX / size)]
    .map((at, axis) => Math.max(0, Math.min(at, (axis ? map.columns : map.rows) - 1)));
  const light = (row, column) => {
    down.forEach((label, at) => label.classList.toggle("lit", at === row));
    across.forEach((label, at) => label.classList.toggle("lit", at === column));
  };
  withTip(field, (event) => {
    const [row, column] = place(event);
    light(row, column);
    return `${shown(queries[row])} (${row}) \u2192 ${shown(keys[column])} (${column})\n`
      + number(valueAt(map, row, column), 4);
  });
  field.addEventListener("pointerleave", () => light(-1, -1));
  field.addEventListener("click", (event) => choose(place(event)[0]));
  return make("div", { class: "scroll" }, make("div", { class: "map" },
    make("div", { class: "corner" }), make("div", { class: "above" }, ...across),
    make("div", { class: "left" }, ...down), field));
}

// the text of the keys, colored by how much one query looks at them
function rowAsText(map, [queries, keys], row, choose) {
  const most = Math.max(...keys.map((_, column) => valueAt(map, row, column)), 1e-9);
  const isSame = queries === keys;
  const asked = queries.map((query, at) => chip(query, { isAsked: at === row,
    click: () => choose(at) }));
  const seen = keys.map((key, column) => chip(key, {
    color: shade("accent", 0.75 * Math.sqrt(valueAt(map, row, column) / most)),
    tip: `${shown(key)} (${column}): ${number(valueAt(map, row, column), 4)}`,
    isAsked: isSame && column === row,
  }));
  return make("div", {},
    make("div", { class: "side" }, "the token that looks (click another)"),
    make("div", { class: "chips" }, ...asked),
    make("div", { class: "side" }, "what it looks at"),
    make("div", { class: "chips" }, ...seen));
}

// one map with its text below; `row` is the query that the text is of
function showMap(place, map, tokens, row = map.rows - 1) {
  const text = make("div", {});
  const choose = (chosen) => text.replaceChildren(rowAsText(map, tokens, chosen, choose));
  choose(row);
  place.replaceChildren(largeMap(map, tokens, choose), text);
}

function attentionGrid(unpacked, show) {
  const [layers, heads] = unpacked.shape;
  const cells = [make("span", { class: "name" })];
  for (let head = 0; head < heads; head++) {
    cells.push(make("span", { class: "name" }, `head ${head}`));
  }
  const buttons = [];
  for (let layer = 0; layer < layers; layer++) {
    cells.push(make("span", { class: "name layer" }, `layer ${layer}`));
    for (let head = 0; head < heads; head++) {
      const at = layer * heads + head;
      const button = make("button", { type: "button", "aria-pressed": "false",
        "aria-label": `layer ${layer}, head ${head}` }, drawMap(slice(unpacked, at)));
      button.addEventListener("click", () => press(at));
      button.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -heads, ArrowDown: heads }[event.key];
        if (step && buttons[at + step]) {
          event.preventDefault();
          buttons[at + step].focus();
          press(at + step);
        }
      });
      buttons.push(button);
      cells.push(button);
    }
  }
  const press = (chosen) => {
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(at === chosen)));
    show(Math.floor(chosen / heads), chosen % heads, slice(unpacked, chosen));
  };
  press(0);
  return make("div", { class: "scroll" }, make("div", { class: "grid",
    style: { gridTemplateColumns: `auto repeat(${heads}, 46px)` } }, ...cells));
}

function attentionView(data) {
  const kinds = Object.keys(data.attention);
  const grid = make("div", { id: "attention-grid" }), title = make("h3", { id: "attention-title" });
  const large = make("div", { id: "attention-map" });
  const choose = (place) => {
    const kind = kinds[place];
    grid.replaceChildren(attentionGrid(unpack(data.attention[kind]), (layer, head, map) => {
      title.textContent = `${KIND_NAMES[kind]}, layer ${layer}, head ${head}`;
      showMap(large, map, tokensOf(data, kind));
    }));
  };
  choose(0);
  const parts = kinds.length > 1 ? [choice(kinds.map((kind) => KIND_NAMES[kind]), choose, 0,
    "kind of attention")] : [];
  return section("attention", "Attention maps",
    "Each small square is one head: a row for each token that looks, a column for each that is "
    + "looked at. Rows sum to 1; the stronger, the more, each map by its own largest. Click one, or "
    + "go with the arrow keys.", ...parts, make("div", { class: "beside" }, grid, make("div", {}, title, large)));
}

function rolloutView(data) {
  const kinds = Object.keys(data.rollout), large = make("div", { id: "rollout-map" });
  const layers = make("div", {});
  const chooseKind = (place) => {
    const kind = kinds[place], unpacked = unpack(data.rollout[kind]), depth = unpacked.shape[0];
    const choose = (layer) => showMap(large, slice(unpacked, layer), tokensOf(data, kind));
    const name = make("output", {}, `to layer ${depth - 1}`);
    const slider = make("input", { type: "range", min: 0, max: depth - 1, value: depth - 1,
      "aria-label": "layer", oninput: () => {
        name.textContent = `to layer ${slider.value}`;
        choose(Number(slider.value));
      } });
    layers.replaceChildren(make("div", { class: "row" }, slider, name));
    choose(depth - 1);
  };
  chooseKind(0);
  const parts = kinds.length > 1 ? [choice(kinds.map((kind) => KIND_NAMES[kind]), chooseKind, 0,
    "stack")] : [];
  return section("rollout", "Attention rollout",
    "How much of a token's state comes from each token of the input, if attention alone moved "
    + "information: half of each layer is its mean over heads, half the residual stream "
    + "(Abnar & Zuidema 2020).", ...parts, layers, large);
}
