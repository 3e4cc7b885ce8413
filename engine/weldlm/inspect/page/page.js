// The page: a header, a view for each part of the data that is there, and links to them.

const VIEWS = [
  ["attributions", "Attribution", attributionView],
  ["lens", "Logit lens", lensView],
  ["attention", "Attention", attentionView],
  ["rollout", "Rollout", rolloutView],
  ["ablation", "Ablation", ablationView],
  ["neighbors", "Neighbors", neighborsView],
];

function header(data) {
  const model = data.model;
  const layers = model.num_encoder_layers
    ? `${model.num_encoder_layers} encoder and ${model.num_layers} decoder layers`
    : `${model.num_layers} layers`;
  const facts = [`${model.family}, ${model.head.replace(/_/g, " ")}`, layers,
    `${model.num_heads} heads`, `${model.num_parameters.toLocaleString("en")} parameters`,
    `${data.tokens.length} tokens`];
  if (data.target_tokens.length) facts.push(`${data.target_tokens.length} target tokens`);
  const parts = [make("h1", {}, model.name), make("div", { class: "soft" }, facts.join(" \u00b7 ")),
    make("div", { class: "text", id: "text" }, data.text)];
  if (data.notes.length) {
    parts.push(make("ul", { class: "notes", id: "notes" },
      ...data.notes.map((note) => make("li", {}, `not shown: ${note}`))));
  }
  return parts;
}

function draw() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const there = VIEWS.filter(([key]) => data[key] !== null);
  document.getElementById("header").replaceChildren(...header(data));
  document.getElementById("main").replaceChildren(...there.map(([, , view]) => view(data)));
  document.getElementById("nav").replaceChildren(make("div", {}, ...there.map(([key, name]) =>
    make("a", { href: `#${key === "attributions" ? "attribution" : key}` }, name))));
}

draw();
// canvases have the colors of the scheme they were drawn in
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
