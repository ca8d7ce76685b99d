// What a person does: edits, by pointer or keys. Goes on from drawing.js.

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

watch("value", show);
show();
