// The map: a row for each layer, a column for each level. Colour and number tell the points lost against the
// dense model; hatching tells that the interval is still wide. Only the rows in sight are drawn.

const HEAD = 24;
const ROW = { tight: 12, least: 15, most: 26 }; // tight where that brings every layer into sight
// The page's first metric, until a sweep says which it is.
const POINTS = { name: "drop", scale: "Points lost", unit: "points", factor: -100, offset: 0, sign: 1, ticks: [0, 1, 2, 5, 10, 20, 50], log: true, fine: 1, digits: 1 };
const SCALES = {
  light: ["#fbf7ea", "#fde3a3", "#f9b04f", "#e0701b", "#a63c0c", "#5c1d0c"],
  dark: ["#2a2c2f", "#4f3524", "#8a4718", "#c96a16", "#f2a544", "#fde7b0"],
};
// A harm on the scale, 0 to 1; a logarithmic one is steep near nothing, where decisions are made.
function onScale(harm, { ticks, log }) {
  const [least, most] = [ticks[0], ticks[ticks.length - 1]];
  if (!log) return Math.min(1, Math.max(0, (harm - least) / (most - least)));
  return Math.min(1, Math.log1p((50 * Math.max(0, harm)) / most) / Math.log1p(50));
}
const channelsOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function colourScale(dark, metric) {
  const stops = SCALES[dark ? "dark" : "light"].map(channelsOf);
  return (harm) => {
    const place = onScale(harm, metric) * (stops.length - 1);
    const at = Math.min(stops.length - 2, Math.floor(place));
    const mixed = stops[at].map((low, channel) => Math.round(low + (stops[at + 1][channel] - low) * (place - at)));
    const light = (mixed[0] * 0.299 + mixed[1] * 0.587 + mixed[2] * 0.114) / 255;
    return { fill: `rgb(${mixed.join(" ")})`, ink: light > 0.52 ? "#1b1205" : "#fffaf0" };
  };
}
const isDark = (el) => getComputedStyle(el).colorScheme.includes("dark");
// An interval so wide that neither the number nor its rank can be relied on.
const isWide = (half, lost, { fine, log }) => half > (log ? Math.max(fine, 0.2 * lost) : fine);
function lostText(harm, { sign, digits }) {
  const shown = sign * harm;
  const few = Math.abs(shown) < 9.95 ? digits : 0;
  return Math.abs(shown) < 0.5 * 10 ** -digits ? "0" : Number.isFinite(shown) ? number(shown, few).replace("-", "−") : "∞";
}

function hatching(pen, ink) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const stroke = tile.getContext("2d");
  stroke.strokeStyle = ink;
  stroke.globalAlpha = 0.3;
  stroke.lineWidth = 1;
  for (const shift of [-3, 3, 9]) { stroke.moveTo(shift - 4, 7); stroke.lineTo(shift + 4, -1); }
  stroke.stroke();
  return pen.createPattern(tile, "repeat");
}

// A name cut at its beginning: what tells layers apart is at the end.
function fitted(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let start = 1;
  while (start < text.length && pen.measureText(`…${text.slice(start)}`).width > width) start += 1;
  return `…${text.slice(start).replace(/^\.+/, "")}`;
}

function mapLayout(data, width, height) {
  const names = Math.min(190, Math.max(108, width * 0.2));
  const rows = Math.max(1, data.layers.length);
  const even = Math.floor((height - HEAD - 2) / rows);
  const rowHeight = even < ROW.tight ? ROW.least : Math.min(ROW.most, even);
  return { names, rowHeight, columnWidth: (width - names - 2) / Math.max(1, data.levels.length), full: HEAD + rows * rowHeight + 2 };
}

function drawMap(pen, data, layout, view) {
  const { width, height, scroll, colours, dark } = view;
  const { names, rowHeight, columnWidth } = layout;
  const scale = colourScale(dark, data.metric);
  const patterns = {};
  const first = Math.max(0, Math.floor((scroll) / rowHeight));
  const last = Math.min(data.layers.length, Math.ceil((scroll + height - HEAD) / rowHeight));
  const roomy = columnWidth >= 30;
  pen.textBaseline = "middle";
  pen.save();
  pen.beginPath();
  pen.rect(0, HEAD, width, height - HEAD);
  pen.clip();
  for (let row = first; row < last; row += 1) {
    const y = HEAD + row * rowHeight - scroll;
    drawName(pen, data, layout, row, y, colours);
    for (let column = 0; column < data.levels.length; column += 1) {
      const x = names + column * columnWidth;
      const cell = data.cell(row, column);
      if (!cell) {
        pen.fillStyle = colours("sunken");
        pen.fillRect(x + 1, y + 1, columnWidth - 2, rowHeight - 2);
        continue;
      }
      const { fill, ink } = scale(cell.lost);
      pen.fillStyle = fill;
      pen.fillRect(x + 0.5, y + 0.5, columnWidth - 1, rowHeight - 1);
      if (isWide(cell.half, cell.lost, data.metric)) {
        pen.fillStyle = patterns[ink] ||= hatching(pen, ink);
        pen.fillRect(x + 0.5, y + 0.5, columnWidth - 1, rowHeight - 1);
      } else if (roomy) {
        pen.fillStyle = ink;
        pen.font = `${Math.min(11.5, rowHeight - 2.5)}px ${view.font}`;
        pen.textAlign = "center";
        pen.fillText(cell.same ? "–" : lostText(cell.lost, data.metric), x + columnWidth / 2, y + rowHeight / 2 + 0.5);
      }
    }
    drawPresent(pen, data, layout, row, y, colours);
  }
  if (view.active && view.marked) ring(pen, names + view.active.column * columnWidth, HEAD + view.active.row * rowHeight - scroll, columnWidth, rowHeight, colours);
  pen.restore();
  pen.fillStyle = colours("muted");
  pen.font = `11px ${view.font}`;
  pen.textAlign = "center";
  data.levels.forEach((level, column) => pen.fillText(data.levelText(level, columnWidth < 40), names + (column + 0.5) * columnWidth, HEAD / 2));
}

function drawName(pen, data, { names, rowHeight }, row, y, colours) {
  const chosen = data.selected.has(row);
  if (chosen) {
    pen.fillStyle = colours("accent");
    pen.fillRect(0, y + 1, 3, rowHeight - 2);
  }
  const room = data.locked.has(row) ? 16 : 0;
  pen.font = `${chosen ? "600 " : ""}${Math.min(names < 120 ? 10.5 : 12, rowHeight - 2)}px ${data.font}`;
  pen.fillStyle = colours(chosen ? "text" : "muted");
  pen.textAlign = "right";
  pen.fillText(fitted(pen, data.layers[row], names - 13 - room), names - 7 - room, y + rowHeight / 2 + 0.5);
  if (room) lockSign(pen, names - 18, y + rowHeight / 2 - 4, colours("muted"));
}

function lockSign(pen, x, y, colour) {
  pen.fillStyle = pen.strokeStyle = colour;
  pen.lineWidth = 1.2;
  pen.fillRect(x, y + 3.5, 8, 5.5);
  pen.beginPath();
  pen.arc(x + 4, y + 3.5, 2.4, Math.PI, 0);
  pen.stroke();
}

// Where the layer stands now: a dot in the cell of its level, or on the border between the two it lies between.
function drawPresent(pen, data, { names, rowHeight, columnWidth }, row, y, colours) {
  const place = data.placeOf(data.present[row]);
  if (place == null) return;
  const within = Number.isInteger(place) ? Math.min(8, columnWidth / 4) : columnWidth;
  pen.fillStyle = colours("accent");
  pen.strokeStyle = colours("surface");
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.arc(names + Math.floor(place) * columnWidth + within, y + rowHeight / 2, Math.min(3.5, rowHeight / 4), 0, 2 * Math.PI);
  pen.stroke();
  pen.fill();
}

function ring(pen, x, y, width, height, colours) {
  pen.lineWidth = 3;
  pen.strokeStyle = colours("surface");
  pen.strokeRect(x + 1, y + 1, width - 2, height - 2);
  pen.lineWidth = 1.5;
  pen.strokeStyle = colours("text");
  pen.strokeRect(x + 1, y + 1, width - 2, height - 2);
}

function mapHit(layout, data, x, y, scroll) {
  const row = Math.floor((y - HEAD + scroll) / layout.rowHeight);
  if (y < HEAD || row < 0 || row >= data.layers.length) return null;
  const column = Math.floor((x - layout.names) / layout.columnWidth);
  return { row, column: x < layout.names || column >= data.levels.length ? null : column };
}
