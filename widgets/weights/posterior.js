// What training found likely of a layer's weights: one column a weight, from mostly noise on the left to mostly
// signal on the right. Each is a normal distribution, darkest at its mean; grey where the weight is zero now.

// How far from the mean a distribution is drawn, in deviations, and in how many slices.
const TAIL = 2.5;
const SLICES = 11;

function drawPosterior(pen, { width, height }, colour, { shown, hover }) {
  const frame = frameOf(width, height, false);
  const total = shown.length / 4;
  const [place, mean, deviation, after] = [0, 1, 2, 3].map((number) => shown.subarray(number * total, (number + 1) * total));
  const signal = mean.map((value, index) => Math.abs(value) / deviation[index]);
  const ends = [...mean].map((value, index) => Math.abs(value) + TAIL * deviation[index]).sort((one, other) => one - other);
  // A few weights far out would leave no room for the others: they are cut, and an arrow says so.
  const reach = Math.min(ends[total - 1], 1.25 * ends[Math.floor(0.97 * (total - 1))]) || 1;
  const y = (value) => frame.top + ((reach - value) / (2 * reach)) * frame.height;
  const each = frame.width / total;
  const x = (index) => frame.left + index * each;

  levelLines(pen, frame, colour, axisSteps(-reach, reach, Math.max(2, Math.floor(frame.height / 45))), y, short);
  pen.textAlign = "center";
  pen.textBaseline = "top";
  const labels = Math.max(2, Math.floor(frame.width / 90));
  for (let number = 0; number < labels; number += 1) {
    const index = Math.round(((number + 0.5) / labels) * (total - 1));
    pen.fillText(short(signal[index]), x(index + 0.5), frame.floor + 6);
  }
  const gap = each >= 4 ? 1 : 0;
  pen.save();
  pen.beginPath();
  pen.rect(frame.left, frame.top, frame.width, frame.height);
  pen.clip();
  for (let index = 0; index < total; index += 1) {
    pen.fillStyle = colour(after[index] === 0 ? "base" : "accent");
    if (Math.abs(mean[index]) > reach) {
      const [tip, back] = mean[index] > 0 ? [frame.top, 7] : [frame.floor, -7];
      pen.beginPath();
      pen.moveTo(x(index + 0.5), tip);
      pen.lineTo(x(index + 0.5) - 4, tip + back);
      pen.lineTo(x(index + 0.5) + 4, tip + back);
      pen.fill();
      continue;
    }
    const tall = (2 * TAIL * deviation[index]) / SLICES;
    for (let slice = 0; slice < SLICES; slice += 1) {
      const middle = (slice + 0.5) * (2 * TAIL / SLICES) - TAIL;
      pen.globalAlpha = 0.9 * Math.exp(-0.5 * middle * middle);
      const top = y(mean[index] + middle * deviation[index] + tall / 2);
      const bottom = y(mean[index] + middle * deviation[index] - tall / 2);
      pen.fillRect(x(index), top, Math.max(1, each - gap), bottom - top);
    }
    pen.globalAlpha = 1;
    pen.fillRect(x(index), y(mean[index]) - 0.75, Math.max(1, each - gap), 1.5);
  }
  pen.restore();
  ground(pen, frame, colour);

  const at = hover == null ? -1 : Math.floor((hover - frame.left) / each);
  if (!(at >= 0 && at < total)) return { at: -1, of: total, words: "", rest: "left to right: signal over noise" };
  pen.strokeStyle = colour("text");
  pen.globalAlpha = 0.5;
  pen.strokeRect(x(at) + 0.5, frame.top + 0.5, Math.max(1, each - 1), frame.height - 1);
  pen.globalAlpha = 1;
  const then = after[at] === 0 ? "zero after" : `kept as ${short(after[at])}`;
  return { at, of: total, words: `weight ${count(place[at])}: ${short(mean[at])} ± ${short(deviation[at])}, signal to noise ${short(signal[at])}, ${then}` };
}
