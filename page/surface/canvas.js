// After mask.js, with drawing.js and correcting.js behind it: the body of a function of gradio's HTML component. element,
// trigger, props and watch are its arguments.
//
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
