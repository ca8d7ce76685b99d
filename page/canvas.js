// The body of a function of gradio's HTML component: element, trigger, props and watch are its arguments.
// It draws `props.value` (see canvas.py) and triggers "edit" with the whole list of edits whenever a person adds one
// or takes one back. Coordinates are pixels of the image everywhere; the SVG over it scales them.

const words = props.words[(navigator.language || "en").toLowerCase().startsWith("vi") ? "vi" : "en"];
const find = (selector) => element.querySelector(selector);
const stage = find(".stage"), picture = find(".stage img"), canvas = find(".stage canvas"), svg = find(".stage svg");
const body = find("tbody"), slider = find(".opacity input"), undo = find(".undo");
const CLASS_OF_DRAWN = "region", LEAST_SIDE = 3, STEP = 0.01, BUSY_MS = 15000;

let view = null;           // what is shown: the last value
let tool = "select", chosen = 0, hidden = new Set(), drag = null, cross = null, layers = new Map();
let busy = false, waiting = [], timeout = 0, keyboard = 0;

const say = (key, values = {}) => Object.entries(values).reduce((text, [k, v]) => text.replace(`{${k}}`, v), words[key]);
for (const node of element.querySelectorAll("[data-word]")) node.textContent = say(node.dataset.word);
stage.setAttribute("aria-label", say("canvas"));
find(".tools").setAttribute("aria-label", say("tools"));

function make(name, attributes = {}, parent = null) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent?.append(node);
  return node;
}

// --- masks -------------------------------------------------------------------------------------------------------

/** Lengths of runs, outside and inside in turn, of COCO's compressed RLE. */
function runs(counts) {
  const found = [];
  for (let at = 0; at < counts.length; ) {
    let value = 0, shift = 0, code;
    do {
      code = counts.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16) value |= -1 << shift;
    if (found.length > 2) value += found[found.length - 2];
    found.push(value);
  }
  return found;
}

/** Mask (column by column, as COCO has it), and its fill and rim as canvases of the region's colour. */
function layer(region) {
  const [width, height] = view.grid;
  const key = `${width}x${height} ${region.colour} ${region.counts}`;
  if (layers.has(key)) return layers.get(key);
  const mask = new Uint8Array(width * height);
  let at = 0, inside = 0;
  for (const run of runs(region.counts)) {
    if (inside) mask.fill(1, at, at + run);
    at += run;
    inside = 1 - inside;
  }
  const [fill, rim] = [0, 1].map(() => Object.assign(document.createElement("canvas"), { width, height }));
  const [a, b] = [fill, rim].map((each) => each.getContext("2d").createImageData(width, height));
  const rgb = [1, 3, 5].map((place) => parseInt(region.colour.slice(place, place + 2), 16));
  const thick = Math.max(1, Math.round(Math.max(width, height) / 400));
  const is = (x, y) => x >= 0 && y >= 0 && x < width && y < height && mask[x * height + y];
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      if (!mask[x * height + y]) continue;
      const edge = !(is(x - thick, y) && is(x + thick, y) && is(x, y - thick) && is(x, y + thick));
      (edge ? b : a).data.set([...rgb, 255], 4 * (y * width + x));
    }
  }
  fill.getContext("2d").putImageData(a, 0, 0);
  rim.getContext("2d").putImageData(b, 0, 0);
  const made = { mask, fill, rim };
  layers.set(key, made);
  return made;
}

function drawMasks() {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (const region of [...view.regions].sort((a, b) => a.score - b.score)) {
    if (hidden.has(region.number)) continue;
    const { fill, rim } = layer(region);
    context.globalAlpha = slider.value / 100;
    context.drawImage(fill, 0, 0);
    context.globalAlpha = 1;
    context.drawImage(rim, 0, 0);
  }
}

// --- boxes, clicks, numbers --------------------------------------------------------------------------------------

const pixel = () => view.width / (stage.clientWidth || view.width);  // one of the screen's, in pixels of the image

function drawBoxes() {
  svg.replaceChildren();
  if (!view) return;
  const unit = pixel();
  const order = [...view.regions].sort((a, b) => (a.number === chosen) - (b.number === chosen));
  for (const region of order) {
    if (hidden.has(region.number)) continue;
    const [x, y, width, height] = drag?.number === region.number ? drag.box : region.box;
    const own = region.number === chosen;
    make("rect", { x, y, width, height, class: own ? "box chosen" : "box", stroke: region.colour,
                   "data-number": region.number }, svg);
    const badge = make("g", { class: "badge" }, svg);
    const side = 18 * unit, top = Math.max(0, y - side);
    make("rect", { x, y: top, width: side * (region.number > 9 ? 1.3 : 1), height: side, fill: region.colour }, badge);
    make("text", { x: x + 4 * unit, y: top + 13.5 * unit, "font-size": 13 * unit, "font-weight": 600,
                   fill: region.ink }, badge).textContent = region.number;
    if (!own) continue;
    for (const [px, py, inside] of region.clicks) {
      make("circle", { cx: px, cy: py, r: 6 * unit, fill: inside ? "#009e73" : "#d55e00", stroke: "#fff",
                       "stroke-width": 1.5 * unit }, svg);
      make("path", { d: `M${px - 3 * unit} ${py}h${6 * unit}` + (inside ? `M${px} ${py - 3 * unit}v${6 * unit}` : ""),
                     stroke: "#fff", "stroke-width": 1.5 * unit }, svg);
    }
    if (tool !== "select") continue;
    for (const [right, bottom] of [[0, 0], [1, 0], [0, 1], [1, 1]]) {
      make("circle", { cx: x + right * width, cy: y + bottom * height, r: 7 * unit, fill: region.colour,
                       class: "handle", "data-corner": `${right}${bottom}` }, svg);
    }
  }
  if (drag?.drawn) {
    const [x, y, width, height] = drag.box;
    make("rect", { x, y, width, height, class: "box chosen", stroke: "#fff" }, svg);
  }
  if (cross && tool !== "select") {
    const [x, y] = cross, arm = 12 * unit;
    make("path", { d: `M${x - arm} ${y}h${2 * arm}M${x} ${y - arm}v${2 * arm}`, class: "cross", fill: "none" }, svg);
  }
}

// --- the table ---------------------------------------------------------------------------------------------------

function cell(row, content, name = "td") {
  const node = document.createElement(name);
  node.append(content);
  row.append(node);
  return node;
}

function number(region) {
  const label = Object.assign(document.createElement("label"), { className: "number" });
  const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !hidden.has(region.number) });
  box.setAttribute("aria-label", say("show_region", { number: region.number }));
  box.addEventListener("change", () => {
    hidden[box.checked ? "delete" : "add"](region.number);
    drawMasks();
    drawBoxes();
  });
  const swatch = Object.assign(document.createElement("span"), { className: "swatch", textContent: region.number });
  swatch.style.cssText = `background: ${region.colour}; color: ${region.ink}`;
  label.append(box, swatch);
  return label;
}

function labels(region) {
  const select = document.createElement("select");
  select.setAttribute("aria-label", say("label_of", { number: region.number }));
  for (const [value, text] of view.labels) select.add(new Option(text, value, false, value === region.label));
  select.addEventListener("change", () => {
    edit(() => ({ action: "relabel", region: region.number, label: select.value }));
  });
  return select;
}

function remover(region) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "delete" });
  button.textContent = "✕";
  button.setAttribute("aria-label", say("delete_region", { number: region.number }));
  button.addEventListener("click", () => edit(() => ({ action: "delete", region: region.number })));
  return button;
}

function score(region) {
  if (!region.corrected) return region.score.toFixed(2);
  return Object.assign(document.createElement("span"), { className: "mark", textContent: say("corrected") });
}

function drawTable() {
  const head = document.createElement("tr");
  const columns = ["column_label", "column_score", "column_box", "column_iou", "column_px", "column_mm2"];
  const spaced = view.regions.some((region) => region.area_mm2 !== null);
  cell(head, "", "th");
  for (const key of columns) if (spaced || key !== "column_mm2") cell(head, say(key), "th");
  cell(head, "", "th");
  find("thead").replaceChildren(...(view.regions.length ? [head] : []));
  body.replaceChildren(...view.regions.map((region) => {
    const row = document.createElement("tr");
    row.classList.toggle("chosen", region.number === chosen);
    row.addEventListener("click", (event) => { if (!event.target.closest("button, select, input")) choose(region.number); });
    cell(row, number(region));
    cell(row, labels(region));
    cell(row, score(region));
    cell(row, region.box.map((value) => Math.round(value)).join(", "));
    cell(row, region.iou.toFixed(2));
    cell(row, region.area_px);
    if (spaced) cell(row, region.area_mm2.toFixed(1));
    cell(row, remover(region));
    return row;
  }));
}

function choose(next) {
  chosen = next;
  for (const [index, row] of [...body.rows].entries()) row.classList.toggle("chosen", index + 1 === chosen);
  drawBoxes();
}

function use(next) {
  tool = next;
  for (const button of element.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-checked", button.dataset.tool === tool);
    button.tabIndex = button.dataset.tool === tool ? 0 : -1;
  }
  stage.classList.toggle("drawing", tool !== "select");
  find(".hint span").textContent = say(`hint_${tool}`);
  find(".hint .keys").textContent = say(`keys_${tool}`);
  if (view) {
    if (tool !== "select" && tool !== "new" && !chosen && view.regions.length) choose(1);
  }
  drawBoxes();
}

// --- edits -------------------------------------------------------------------------------------------------------

/** Send one more edit; while an answer is awaited it waits, because numbers may change with that answer. */
function edit(next) {
  if (busy) return void waiting.push(next);
  const made = next();
  if (made) send([...view.edits, made]);
}

function send(edits) {
  busy = true;
  stage.classList.add("busy");
  timeout = setTimeout(free, BUSY_MS);  // the server never answered
  trigger("edit", { edits });
}

function free() {
  clearTimeout(timeout);
  busy = false;
  stage.classList.remove("busy");
  drag = null;
  if (waiting.length) edit(waiting.shift());
}

const back = () => (busy ? waiting.push(() => void back()) : view?.edits.length && send(view.edits.slice(0, -1)));
undo.addEventListener("click", back);

function click(point, inside) {
  if (!view.regions.length) return;
  const target = chosen || at(point) || 1;
  choose(target);
  edit(() => ({ action: "click", region: target, point: point.map(rounded), inside }));
}

const rounded = (value) => Math.round(value * 100) / 100;
const clamp = (value, most) => Math.min(Math.max(value, 0), most);

/** Corners in any order -> [x, y, width, height] inside of the image. */
function boxOf([x0, y0], [x1, y1]) {
  [x0, x1] = [clamp(Math.min(x0, x1), view.width), clamp(Math.max(x0, x1), view.width)];
  [y0, y1] = [clamp(Math.min(y0, y1), view.height), clamp(Math.max(y0, y1), view.height)];
  return [x0, y0, x1 - x0, y1 - y0].map(rounded);
}

/** The number of the region at a point: of those whose mask is there the surest, else the smallest box; 0 for none. */
function at([x, y]) {
  const shown = view.regions.filter((region) => !hidden.has(region.number));
  const [width, height] = view.grid;
  const column = Math.min(width - 1, Math.floor((x / view.width) * width));
  const row = Math.min(height - 1, Math.floor((y / view.height) * height));
  const under = shown.filter((region) => layer(region).mask[column * height + row]).sort((a, b) => b.score - a.score);
  const around = shown.filter(({ box }) => x >= box[0] && y >= box[1] && x <= box[0] + box[2] && y <= box[1] + box[3])
    .sort((a, b) => a.box[2] * a.box[3] - b.box[2] * b.box[3]);
  return (under[0] ?? around[0])?.number ?? 0;
}

// --- pointer -----------------------------------------------------------------------------------------------------

function point(event) {
  const frame = stage.getBoundingClientRect();
  return [((event.clientX - frame.left) / frame.width) * view.width, ((event.clientY - frame.top) / frame.height) * view.height];
}

stage.addEventListener("pointerdown", (event) => {
  if (!view || event.button) return;
  const from = point(event), corner = event.target.dataset?.corner;
  const region = view.regions[chosen - 1];
  if (tool === "new") drag = { drawn: true, from, box: boxOf(from, from) };
  else if (tool === "select" && region && corner) {
    const [x, y, width, height] = region.box;
    drag = { number: chosen, from: [x + (corner[0] === "0") * width, y + (corner[1] === "0") * height], box: region.box };
  } else if (tool === "select" && region && event.target.dataset?.number === String(chosen) && at(from) === chosen) {
    drag = { number: chosen, grip: from, start: region.box, box: region.box };
  }
  if (drag) stage.setPointerCapture(event.pointerId);
  else if (tool === "select") choose(at(from));
});

stage.addEventListener("pointermove", (event) => {
  if (!drag || drag.sent || drag.keys) return;
  const to = point(event);
  drag.box = drag.grip ? moved(drag.start, to[0] - drag.grip[0], to[1] - drag.grip[1]) : boxOf(drag.from, to);
  drawBoxes();
});

stage.addEventListener("pointerup", (event) => {
  if (!view || event.button) return;
  if (!drag || drag.keys) {
    if (tool === "add" || tool === "take") click(point(event), tool === "add");
    return;
  }
  const { number: region, box, drawn, start } = drag;
  if (drag.sent) return;
  if (Math.min(box[2], box[3]) < LEAST_SIDE * pixel() || (start && box.every((value, i) => value === start[i]))) {
    drag = null;
    drawBoxes();
  } else {
    drag.sent = true;
    edit(() => (drawn ? { action: "add", box, label: CLASS_OF_DRAWN } : { action: "box", region, box }));
  }
});
stage.addEventListener("pointercancel", () => { drag = null; drawBoxes(); });

function moved([x, y, width, height], dx, dy) {
  return [clamp(x + dx, view.width - width), clamp(y + dy, view.height - height), width, height].map(rounded);
}

// --- keyboard ----------------------------------------------------------------------------------------------------

/** Where the keyboard's cross starts; it shows with its first move. */
const middle = () => [view.width / 2, view.height / 2];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

stage.addEventListener("keydown", (event) => {
  if (!view) return;
  const arrow = ARROWS[event.key], region = view.regions[chosen - 1];
  if (arrow) arrows(arrow, region, event.shiftKey);
  else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") back();
  else if ((event.key === "Delete" || event.key === "Backspace") && region) {
    edit(() => ({ action: "delete", region: chosen }));
  } else if (event.key === "Enter" || event.key === " ") enter();
  else return;
  event.preventDefault();
});

function arrows([dx, dy], region, resize) {
  const step = STEP * Math.max(view.width, view.height);
  if (tool !== "select") {
    cross ??= middle();
    cross = [clamp(cross[0] + dx * step, view.width), clamp(cross[1] + dy * step, view.height)];
    return drawBoxes();
  }
  if (!region) return choose(view.regions.length ? 1 : 0);
  if (busy && !drag) return;
  const [x, y, width, height] = drag?.box ?? region.box;
  const box = resize ? boxOf([x, y], [Math.max(x + width + dx * step, x + step), Math.max(y + height + dy * step, y + step)])
                     : moved([x, y, width, height], dx * step, dy * step);
  drag = { number: chosen, box, keys: true };
  drawBoxes();
  clearTimeout(keyboard);  // one edit for a row of key presses
  keyboard = setTimeout(() => {
    const number = chosen;
    if (drag) edit(() => ({ action: "box", region: number, box }));
  }, 350);
}

function enter() {
  if (tool === "new") {
    const side = Math.min(view.width, view.height) / 4;
    const [x, y] = cross ?? middle(), box = boxOf([x - side / 2, y - side / 2], [x + side / 2, y + side / 2]);
    edit(() => ({ action: "add", box, label: CLASS_OF_DRAWN }));
  } else if (tool === "select") choose(view.regions.length ? (chosen % view.regions.length) + 1 : 0);
  else click(cross ?? middle(), tool === "add");
}

find(".tools").addEventListener("click", (event) => event.target.dataset.tool && use(event.target.dataset.tool));
find(".tools").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const all = [...element.querySelectorAll("[data-tool]")];
  const next = all[(all.findIndex((button) => button.dataset.tool === tool) + step + all.length) % all.length];
  use(next.dataset.tool);
  next.focus();
});
slider.addEventListener("input", () => view && drawMasks());
new ResizeObserver(drawBoxes).observe(stage);

// --- a new value -------------------------------------------------------------------------------------------------

function show() {
  const next = props.value;
  element.style.display = next?.width ? "" : "none";
  if (!next?.width) {
    view = null;
    waiting = [];
    return free();
  }
  const fresh = Boolean(next.picture), count = view?.regions.length ?? 0;
  view = JSON.parse(JSON.stringify(next));
  if (fresh) {
    picture.src = view.picture;
    hidden = new Set();
    layers = new Map();
    chosen = 0;
    waiting = [];
    cross = null;
    [canvas.width, canvas.height] = view.grid;
    svg.setAttribute("viewBox", `0 0 ${view.width} ${view.height}`);
    stage.style.aspectRatio = `${view.width} / ${view.height}`;
    stage.style.maxWidth = `calc(72vh * ${view.width / view.height})`;
    tool = "select";
  } else if (view.regions.length > count) {
    chosen = view.regions.length;  // what was just drawn can be moved at once
    tool = "select";
  } else if (view.regions.length < count) {
    chosen = 0;
    hidden = new Set();
  }
  undo.disabled = !view.edits.length;
  free();
  drawMasks();
  use(tool);
  drawTable();
}
watch("value", show);
show();
