// A page of weights as images, before and after on one scale. A weight is a byte: its share of the layer's
// largest magnitude, 0 for what is exactly zero, -128 for what is not there. Whole pixels a weight where there is
// room, so that no weight looks larger than another.

const ABSENT = -128;
const CAPTION = 17;
const BETWEEN = 18;

// How strong a weight's colour is: the smallest is still told from zero.
const strength = (share) => (share > 0 ? 0.24 + 0.76 * share ** 0.7 : 0);

// Any CSS colour as [red, green, blue].
function channelsOf(pen, colour) {
  pen.fillStyle = "#000000";
  pen.fillStyle = colour;
  const found = pen.fillStyle;
  return found[0] === "#" ? [1, 3, 5].map((at) => parseInt(found.slice(at, at + 2), 16)) : found.match(/[\d.]+/g).slice(0, 3).map(Number);
}

// Returns code + 128 → [red, green, blue].
function paletteOf(pen, colour) {
  const [zero, minus, plus] = ["sunken", "minus", "plus"].map((name) => channelsOf(pen, colour(name)));
  return Array.from({ length: 256 }, (_, place) => {
    const code = place - 128;
    const end = code < 0 ? minus : plus;
    return zero.map((from, channel) => Math.round(from + (end[channel] - from) * strength(Math.abs(code) / 127)));
  });
}

// Where the weights of a block are, in weights: `strips` rows of tiles beside each other before the next line.
function blockOf([rows, tiles, high, wide], kind, strips) {
  const gap = kind === "matrix" ? 0 : kind === "images" ? 2 : 1;
  const strip = tiles * (wide + gap) - gap;
  const apart = tiles > 1 ? 3 * gap : gap;
  return {
    width: strips * (strip + apart) - apart, height: Math.ceil(rows / strips) * (high + gap) - gap,
    left: (row, tile) => (row % strips) * (strip + apart) + tile * (wide + gap), top: (row) => Math.floor(row / strips) * (high + gap),
  };
}

// Chooses how many strips stand beside each other, and whether after stands beside before or below it.
function arrange(width, height, shape, kind) {
  const density = window.devicePixelRatio || 1;
  let best = null;
  for (const beside of [true, false]) {
    const [wide, high] = beside ? [(width - BETWEEN) / 2, height - CAPTION] : [width, height / 2 - CAPTION];
    for (let strips = 1; strips <= (kind === "matrix" ? 1 : shape[0]); strips += 1) {
      const block = blockOf(shape, kind, strips);
      let scale = Math.min(wide / block.width, high / block.height, kind === "matrix" ? 24 : 14);
      if (scale * density >= 1) scale = Math.floor(scale * density) / density;
      if (!best || scale > best.scale * 1.001) best = { block, scale, beside, strips };
    }
  }
  const { block, scale, beside } = best;
  const step = beside ? [Math.max(block.width * scale, 44) + BETWEEN, 0] : [0, block.height * scale + CAPTION];
  return { ...best, origins: [[0, CAPTION], [step[0], CAPTION + step[1]]] };
}

function paint(codes, shape, block, palette) {
  const [rows, tiles, high, wide] = shape;
  const sheet = new OffscreenCanvas(block.width, block.height);
  const picture = new ImageData(block.width, block.height);
  let at = 0;
  for (let row = 0; row < rows; row += 1) {
    for (let tile = 0; tile < tiles; tile += 1) {
      const [left, top] = [block.left(row, tile), block.top(row)];
      for (let y = 0; y < high; y += 1) {
        for (let x = 0; x < wide; x += 1, at += 1) {
          if (codes[at] === ABSENT) continue; // the hatching shows through
          const place = 4 * ((top + y) * block.width + left + x);
          picture.data.set(palette[codes[at] + 128], place);
          picture.data[place + 3] = 255;
        }
      }
    }
  }
  sheet.getContext("2d").putImageData(picture, 0, 0);
  return sheet;
}

function hatching(pen, colour) {
  const tile = new OffscreenCanvas(4, 4);
  const brush = tile.getContext("2d");
  brush.strokeStyle = colour("control");
  brush.globalAlpha = 0.75;
  brush.beginPath();
  for (const shift of [-4, 0, 4]) { brush.moveTo(shift - 1, 5); brush.lineTo(shift + 5, -1); }
  brush.stroke();
  return pen.createPattern(tile, "repeat");
}

function drawPictures(pen, { width, height }, colour, { about, before, after, cell }) {
  const { kind, shape } = about;
  const [rows, tiles, high, wide] = shape;
  const size = tiles * high * wide;
  const across = kind === "matrix" ? wide : tiles;
  const { block, scale, origins } = arrange(width, height, shape, kind);
  const palette = paletteOf(pen, colour);
  const hatch = hatching(pen, colour);
  const cells = kind === "matrix" ? { left: (row, at) => at, top: (row) => row, wide: 1, high: 1 } : { left: block.left, top: block.top, wide, high };
  [before, after].forEach((codes, side) => {
    const [left, top] = origins[side];
    pen.fillStyle = colour("muted");
    pen.textAlign = "left";
    pen.textBaseline = "top";
    pen.fillText(["before", "after"][side], left, top - CAPTION + 2);
    pen.fillStyle = hatch;
    for (let row = 0; row < rows; row += 1) {
      for (let at = 0; at < across; at += 1) {
        const first = row * size + (kind === "matrix" ? at : at * high * wide);
        if (codes[first] === ABSENT) pen.fillRect(left + cells.left(row, at) * scale, top + cells.top(row, at) * scale, cells.wide * scale, cells.high * scale);
      }
    }
    pen.imageSmoothingEnabled = scale * (window.devicePixelRatio || 1) < 1;
    pen.drawImage(paint(codes, shape, block, palette), left, top, block.width * scale, block.height * scale);
    if (about.close_up) drawCells(pen, colour, about, left, top, rows, wide, scale);
  });
  if (cell) {
    pen.strokeStyle = colour("text");
    pen.lineWidth = 1.5;
    for (const [left, top] of origins) {
      pen.strokeRect(left + cells.left(cell.row, cell.at) * scale - 1, top + cells.top(cell.row, cell.at) * scale - 1, cells.wide * scale + 2, cells.high * scale + 2);
    }
  }
  return {
    of: rows * across, rows, across, words: cell ? cellWords(about, before, after, cell) : "", rest: pageWords(about),
    locate(x, y) {
      for (const [left, top] of origins) {
        const [column, line] = [(x - left) / scale, (y - top) / scale];
        if (column < 0 || line < 0 || column >= block.width || line >= block.height) continue;
        for (let row = 0; row < rows; row += 1) {
          if (line < cells.top(row, 0) || line >= cells.top(row, 0) + cells.high) continue;
          for (let at = 0; at < across; at += 1) {
            const [across, down] = [Math.floor(column - cells.left(row, at)), Math.floor(line - cells.top(row, at))];
            if (across >= 0 && across < cells.wide) return { row, at, spot: kind === "matrix" ? null : [down, across] };
          }
        }
      }
      return null;
    },
  };
}

// Close up: lines between the weights, and stronger ones between the groups of an N:M pattern.
function drawCells(pen, colour, about, left, top, rows, columns, scale) {
  const group = about.kept ? about.kept[1] : 0;
  const line = (name, alpha, wide, fromX, fromY, toX, toY) => {
    pen.strokeStyle = colour(name);
    pen.globalAlpha = alpha;
    pen.lineWidth = wide;
    pen.beginPath();
    pen.moveTo(fromX, fromY);
    pen.lineTo(toX, toY);
    pen.stroke();
  };
  for (let row = 1; row < rows && scale >= 6; row += 1) line("surface", 1, 1, left, top + row * scale, left + columns * scale, top + row * scale);
  for (let at = 1; at < columns && scale >= 6; at += 1) line("surface", 1, 1, left + at * scale, top, left + at * scale, top + rows * scale);
  for (let at = 0; group && at <= columns; at += 1) {
    if ((about.column + at) % group === 0) line("text", 0.9, scale >= 6 ? 1.5 : 1, left + at * scale, top - 3, left + at * scale, top + rows * scale + 3);
  }
  pen.globalAlpha = 1;
}

const span = (name, first, shown, total) => (shown >= total ? `all ${count(total)} ${name}` : `${name} ${count(first)} to ${count(first + shown - 1)} of ${count(total)}`);

function pageWords(about) {
  if (!about.kind) return "";
  const [rows, tiles, , wide] = about.shape;
  const shown = about.kind === "matrix" ? wide : about.kind === "images" ? about.columns : tiles;
  const name = about.columns > about.inputs ? "weights" : "inputs";
  const marked = about.kept ? [`${about.kept[0]} of every ${about.kept[1]} kept`] : [];
  return [...marked, span("outputs", about.output, rows, about.outputs), ...(about.kind === "images" ? [] : [span(name, about.column, shown, about.columns)])].join(" · ");
}

// What is under the pointer or the keys: a weight, or with the keys a whole kernel.
function cellWords(about, before, after, { row, at, spot = null }) {
  const { kind, reach, inputs, columns } = about;
  const [, tiles, high, wide] = about.shape;
  const value = (code) => (code === ABSENT ? "removed" : code === 0 ? "0" : short((code / 127) * reach));
  const output = `output ${count(about.output + row)}`;
  const pair = (place) => `${value(before[place])} before, ${value(after[place])} after`;
  if (kind === "matrix") {
    const column = about.column + at;
    const place = columns > inputs ? `, place ${count(Math.floor(column / inputs))}` : "";
    return `${output}, input ${count(column % inputs)}${place}: ${pair(row * tiles * high * wide + at)}`;
  }
  const first = (row * tiles + at) * high * wide;
  const zeros = (codes) => {
    const tile = codes.subarray(first, first + high * wide);
    return tile[0] === ABSENT ? "removed" : `${count(tile.filter((code) => code === 0).length)} of ${count(high * wide)} zero`;
  };
  const input = kind === "kernels" ? `, input ${count(about.column + at)}` : tiles > 1 ? `, channel ${at}` : "";
  if (!spot) return `${output}${input}: ${zeros(before)} before, ${zeros(after)} after`;
  return `${output}${input}, row ${spot[0]}, column ${spot[1]}: ${pair(first + spot[0] * wide + spot[1])} · ${zeros(after)}`;
}
