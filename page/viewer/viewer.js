// The body of a function of gradio's HTML component: element, props and watch are its arguments. It draws `props.value`
// (see viewer.py): one slice or frame at a time with the objects in it, and the area of each over all of them.
// Pictures are fetched when they are first shown, and the others one by one in the order of their distance.

const words = props.words[(navigator.language || "en").toLowerCase().startsWith("vi") ? "vi" : "en"];
const find = (selector) => element.querySelector(selector);
const stage = find(".stage"), picture = find(".stage img"), canvas = find(".stage canvas"), curve = find(".curve");
const where = find(".where input"), slider = find(".opacity input"), play = find(".play"), body = find("tbody");
const AHEAD = 4, PLAY_MS = 90;

let view = null, at = 0, hidden = new Set(), kept = new Map(), pictures = new Map(), playing = 0, wheel = 0;

const say = (key, values = {}) => Object.entries(values).reduce((text, [k, v]) => text.replace(`{${k}}`, v), words[key]);
for (const node of element.querySelectorAll("[data-word]")) node.textContent = say(node.dataset.word);

function show() {
  const next = props.value;
  element.style.display = next?.frames ? "" : "none";
  stop();
  [kept, pictures, hidden] = [new Map(), new Map(), new Set()];
  view = next?.frames ? next : null;
  if (!view) return;
  where.max = view.frames.length - 1;
  [canvas.width, canvas.height] = [view.width, view.height];
  stage.style.aspectRatio = view.aspect;
  stage.style.maxWidth = `calc(68vh * ${view.aspect})`;
  stage.classList.toggle("mirrored", view.mirrored);
  for (const [side, letter] of Object.entries(view.sides)) find(`.side.${side}`).textContent = letter;
  play.setAttribute("aria-label", say("play"));
  drawTable();
  drawCurve();
  go(view.start);
}

// --- one slice or frame ------------------------------------------------------------------------------------------

function load(index) {
  if (!pictures.has(index)) {
    const image = new Image();
    image.src = new URL(view.frames[index], document.baseURI);
    pictures.set(index, image);
  }
  return pictures.get(index);
}

function go(index) {
  if (!view) return;
  at = Math.min(Math.max(index, 0), view.frames.length - 1);
  where.value = at;
  const time = view.seconds ? `, ${(view.indices[at] * view.seconds).toFixed(2)} s` : "";
  const name = say(view.kind === "video" ? "frame_of" : "slice_of", { number: view.indices[at], last: view.count - 1 });
  find(".where span").textContent = name + time;
  where.setAttribute("aria-valuetext", name);
  stage.setAttribute("aria-label", name);
  const image = load(at), shown = at;
  const put = () => { if (at === shown) { picture.src = image.src; drawMasks(); } };
  if (image.complete) put(); else image.addEventListener("load", put, { once: true });
  for (let near = 1; near <= AHEAD; near++) {
    if (at + near < view.frames.length) load(at + near);
    if (at - near >= 0) load(at - near);
  }
  for (const [row, object] of [...body.rows].map((row, number) => [row, view.objects[number]])) {
    row.classList.toggle("absent", !object.masks[view.indices[at]]);
  }
  drawNow();
}

/** Fill and rim of one object in one frame, on a canvas each; the last ones are kept. */
function layer(object, index) {
  const key = `${object.number} ${index}`;
  if (!kept.has(key)) {
    if (kept.size > 200) kept.delete(kept.keys().next().value);
    kept.set(key, paint(object.masks[index], view.width, view.height, object.colour));
  }
  return kept.get(key);
}

function drawMasks() {
  const context = canvas.getContext("2d"), index = view.indices[at];
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (const object of [...view.objects].reverse()) {
    if (hidden.has(object.number) || !object.masks[index]) continue;
    const { fill, rim } = layer(object, index);
    context.globalAlpha = slider.value / 100;
    context.drawImage(fill, 0, 0);
    context.globalAlpha = 1;
    context.drawImage(rim, 0, 0);
  }
}

// --- area over slices or time ------------------------------------------------------------------------------------

const SPACE = "http://www.w3.org/2000/svg", WIDE = 1000, HIGH = 150, TOP = 18, LOW = 130;
const along = (index) => 4 + (WIDE - 8) * (view.count > 1 ? index / (view.count - 1) : 0.5);

function make(name, attributes, text = "") {
  const node = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  curve.append(node);
  return node;
}

function drawCurve() {
  curve.replaceChildren();
  curve.style.display = view.objects.length ? "" : "none";
  curve.setAttribute("viewBox", `0 0 ${WIDE} ${HIGH}`);
  curve.setAttribute("preserveAspectRatio", "none");
  const most = Math.max(1, ...view.objects.flatMap((object) => object.areas));
  make("path", { d: `M0 ${LOW}H${WIDE}`, class: "axis" });
  for (const object of view.objects) {
    if (hidden.has(object.number)) continue;
    const line = object.areas.map((area, index) => `${index ? "L" : "M"}${along(index)} ${LOW - (LOW - TOP) * area / most}`);
    make("path", { d: line.join(""), stroke: object.colour });
  }
  make("path", { class: "now" });
  const unit = view.area_unit === "mm2" ? "mm²" : "px";
  curve.setAttribute("aria-label", say(view.kind === "video" ? "area_over_time" : "area_over_slices"));
  find(".curve-title")?.remove();
  const title = Object.assign(document.createElement("p"), { className: "curve-title" });
  title.textContent = `${curve.getAttribute("aria-label")}: 0 – ${Math.round(most)} ${unit}`;
  title.style.cssText = "margin: 10px 0 0; font-size: 13px; color: var(--body-text-color-subdued)";
  title.style.display = curve.style.display;
  curve.before(title);
}

function drawNow() {
  const x = along(view.indices[at]);
  curve.querySelector(".now")?.setAttribute("d", `M${x} 4V${LOW}`);
}

/** The shown frame that is nearest to frame `index` of the stack. */
const nearest = (index) => view.indices.reduce((best, each, place) =>
  Math.abs(each - index) < Math.abs(view.indices[best] - index) ? place : best, 0);

curve.addEventListener("pointerdown", (event) => {
  const frame = curve.getBoundingClientRect();
  const share = ((event.clientX - frame.left) / frame.width * WIDE - 4) / (WIDE - 8);
  go(nearest(share * (view.count - 1)));
});

// --- the table ---------------------------------------------------------------------------------------------------

function cell(row, content, name = "td") {
  const node = document.createElement(name);
  node.append(content);
  row.append(node);
}

function number(object) {
  const label = Object.assign(document.createElement("label"), { className: "number" });
  const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
  box.setAttribute("aria-label", say("show_region", { number: object.number }));
  box.addEventListener("change", () => {
    hidden[box.checked ? "delete" : "add"](object.number);
    drawMasks();
    drawCurve();
    drawNow();
  });
  const swatch = Object.assign(document.createElement("span"), { className: "swatch", textContent: object.number });
  swatch.style.cssText = `background: ${object.colour}; color: ${object.ink}`;
  label.append(box, swatch);
  return label;
}

function drawTable() {
  const head = document.createElement("tr");
  for (const text of ["", ...view.columns]) cell(head, text, "th");
  find("thead").replaceChildren(...(view.objects.length ? [head] : []));
  body.replaceChildren(...view.objects.map((object) => {
    const row = document.createElement("tr");
    cell(row, number(object));
    for (const text of object.cells) cell(row, text);
    row.addEventListener("click", (event) => { if (!event.target.closest("label")) go(nearest(object.best)); });
    return row;
  }));
}

// --- moving through it -------------------------------------------------------------------------------------------

function stop() {
  clearInterval(playing);
  playing = 0;
  play.textContent = "▶";
  play.setAttribute("aria-pressed", "false");
}

play.addEventListener("click", () => {
  if (playing || !view) return stop();
  play.textContent = "❚❚";
  play.setAttribute("aria-pressed", "true");
  const step = view.seconds && view.frames.length === view.count ? Math.max(40, view.seconds * 1000) : PLAY_MS;
  playing = setInterval(() => {
    const next = (at + 1) % view.frames.length;
    if (load(next).complete) go(next);
  }, step);
});

where.addEventListener("input", () => { stop(); go(Number(where.value)); });
slider.addEventListener("input", () => view && drawMasks());
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  wheel += event.deltaY;
  if (Math.abs(wheel) < 30) return;
  stop();
  go(at + Math.sign(wheel));
  wheel = 0;
}, { passive: false });
stage.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10,
                 Home: -Infinity, End: Infinity }[event.key];
  if (step) { stop(); go(at + step); } else if (event.key === " ") play.click(); else return;
  event.preventDefault();
});

watch("value", show);
show();
