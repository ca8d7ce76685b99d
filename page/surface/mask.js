// COCO's compressed RLE in the browser. Goes before what draws masks: the image's surface, and the viewer of stacks.

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

/** Mask (column by column, as COCO has it), and its fill and rim as canvases of one colour. */
function paint(counts, width, height, colour) {
  const mask = new Uint8Array(width * height);
  let at = 0, inside = 0;
  for (const run of runs(counts)) {
    if (inside) mask.fill(1, at, at + run);
    at += run;
    inside = 1 - inside;
  }
  const [fill, rim] = [0, 1].map(() => Object.assign(document.createElement("canvas"), { width, height }));
  const [a, b] = [fill, rim].map((each) => each.getContext("2d").createImageData(width, height));
  const rgb = [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
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
  return { mask, fill, rim };
}
