// What all views are made of. Texts of models and users go through textContent alone.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// a token with its invisible characters made visible
function shown(token) {
  const text = token.replace(/\r/g, "\u240d").replace(/\n/g, "\u21b5").replace(/\t/g, "\u21e5");
  if (text === "") return "\u2205";
  return /^ +$/.test(text) ? "\u2423".repeat(text.length) : text;
}

function number(value, digits = 3) {
  if (value === null) return "not finite";
  if (value !== 0 && Math.abs(value) < 10 ** -digits) return value.toExponential(1);
  return value.toFixed(digits);
}

function signed(value, digits = 3) {
  return (value > 0 ? "+" : "") + number(value, digits);
}

function shade(color, share) {
  return `rgba(var(--${color}), ${Math.max(0, Math.min(1, share)).toFixed(3)})`;
}

// blue below zero, orange above; text stays readable on either
function diverging(value, most) {
  return most > 0 ? shade(value > 0 ? "up" : "down", 0.62 * Math.abs(value) / most) : "transparent";
}

function chip(token, { color = "", tip = "", isAsked = false, click = null } = {}) {
  const element = make(click ? "button" : "span", { class: isAsked ? "chip asked" : "chip" },
    shown(token));
  if (color) element.style.backgroundImage = `linear-gradient(${color}, ${color})`;
  if (tip) withTip(element, () => tip);
  if (click) element.addEventListener("click", click);
  return element;
}

// buttons of which one is pressed
function choice(names, choose, first = 0, label = "") {
  const buttons = names.map((name, place) => make("button", {
    type: "button", "aria-pressed": String(place === first),
    onclick: () => {
      buttons.forEach((other, at) => other.setAttribute("aria-pressed", String(at === place)));
      choose(place);
    },
  }, name));
  return make("div", { class: "row", role: "group", "aria-label": label }, ...buttons);
}

function section(id, title, explanation, ...children) {
  return make("section", { id }, make("h2", {}, title), make("p", { class: "soft" }, explanation),
    ...children);
}

const tip = document.getElementById("tip");

function showTip(text, event) {
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect(), gap = 14;
  const right = event.clientX + gap + box.width > innerWidth;
  const below = event.clientY + gap + box.height > innerHeight;
  const x = right ? event.clientX - gap - box.width : event.clientX + gap;
  const y = below ? event.clientY - gap - box.height : event.clientY + gap;
  tip.style.left = `${Math.max(4, x)}px`;
  tip.style.top = `${Math.max(4, y)}px`;
}

function hideTip() {
  tip.hidden = true;
}

// `text` is called with the event, so that one element can say several things; null says nothing
function withTip(element, text) {
  const show = (event) => {
    const said = text(event);
    if (said === null) hideTip(); else showTip(said, event);
  };
  element.addEventListener("pointermove", show);
  element.addEventListener("pointerdown", show);
  element.addEventListener("pointerleave", hideTip);
}
addEventListener("scroll", hideTip, { passive: true });

// maps of tokens by tokens: 16-bit integers in base64
function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed.data), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const values = new Float32Array(bytes.length / 2);
  for (let i = 0; i < values.length; i++) values[i] = view.getUint16(2 * i, true) / 65535;
  return { shape: packed.shape, values };
}
