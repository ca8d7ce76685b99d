// What is seen: masks, boxes and clicks, the table. Goes on from canvas.js.

// --- masks -------------------------------------------------------------------------------------------------------

/** Mask, fill and rim of a region; kept, because they are drawn with each move of the opacity. */
function layer(region) {
  const [width, height] = view.grid;
  const key = `${width}x${height} ${region.colour} ${region.counts}`;
  if (!layers.has(key)) layers.set(key, paint(region.counts, width, height, region.colour));
  return layers.get(key);
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
