// What each output channel's weights span: grey before, accent after, the darker part one standard deviation
// about the mean. A channel that was removed is an empty frame.

function drawChannels(pen, { width, height }, colour, { reach, before, after, threshold, group, channels, hover }) {
  const frame = frameOf(width, height, false);
  const total = before.length / 4;
  const row = (values, number) => values.subarray(number * total, (number + 1) * total);
  const [low, high, mean, spread] = [0, 1, 2, 3].map((number) => row(before, number));
  const [newLow, newHigh, newMean, newSpread, zeros, step] = [0, 1, 2, 3, 4, 5].map((number) => row(after, number));
  const y = (value) => frame.top + ((reach - value) / (2 * reach)) * frame.height;
  const each = frame.width / total;
  const x = (index) => frame.left + index * each;

  levelLines(pen, frame, colour, axisSteps(-reach, reach, Math.max(2, Math.floor(frame.height / 45))), y, short);
  if (threshold != null) {
    pen.fillStyle = colour("sunken");
    pen.globalAlpha = 0.8;
    pen.fillRect(frame.left, y(threshold), frame.width, y(-threshold) - y(threshold));
    pen.globalAlpha = 1;
  }
  pen.fillStyle = colour("muted");
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (const number of axisSteps(0, channels - 1, Math.max(2, Math.floor(frame.width / 80)), true)) {
    pen.fillText(count(number), x(number / group) + each / 2, frame.floor + 6);
  }
  const bar = (index, from, to, share) => pen.fillRect(x(index) + (each * (1 - share)) / 2, y(to), Math.max(1, each * share), Math.max(1, y(from) - y(to)));
  const wide = each >= 3 ? 0.86 : 1;
  for (let index = 0; index < total; index += 1) {
    pen.fillStyle = pen.strokeStyle = colour("base");
    if (Number.isNaN(newLow[index])) {
      pen.lineWidth = 1;
      pen.globalAlpha = 0.6;
      if (each >= 4) pen.strokeRect(x(index) + each * 0.07, y(high[index]), each * 0.86, y(low[index]) - y(high[index]));
      else { pen.globalAlpha = 0.15; bar(index, low[index], high[index], wide); }
      continue;
    }
    pen.globalAlpha = 0.3;
    bar(index, low[index], high[index], wide);
    pen.globalAlpha = 0.45;
    bar(index, mean[index] - spread[index], mean[index] + spread[index], wide);
    pen.fillStyle = colour("accent");
    pen.globalAlpha = 0.55;
    bar(index, newLow[index], newHigh[index], 0.46);
    pen.globalAlpha = 0.9;
    bar(index, newMean[index] - newSpread[index], newMean[index] + newSpread[index], 0.46);
  }
  pen.globalAlpha = 1;
  // The channel's own grid, where its steps are far enough apart to be seen.
  pen.strokeStyle = colour("surface");
  pen.lineWidth = 1;
  for (let index = 0; index < total && each >= 6; index += 1) {
    if (!(step[index] > 0) || (step[index] / (2 * reach)) * frame.height < 4) continue;
    for (let at = Math.round(newLow[index] / step[index]); at * step[index] <= newHigh[index] + step[index] / 2; at += 1) {
      pen.beginPath();
      pen.moveTo(x(index) + each * 0.24, Math.round(y(at * step[index])) + 0.5);
      pen.lineTo(x(index) + each * 0.76, Math.round(y(at * step[index])) + 0.5);
      pen.stroke();
    }
  }
  if (threshold != null) dashed(pen, colour, [-threshold, threshold].map((at) => [frame.left, y(at), frame.right, y(at)]));
  ground(pen, frame, colour);

  const at = hover == null ? -1 : Math.floor((hover - frame.left) / each);
  if (!(at >= 0 && at < total)) return { at: -1, of: total, words: "" };
  pen.strokeStyle = colour("text");
  pen.globalAlpha = 0.5;
  pen.strokeRect(x(at) + 0.5, frame.top + 0.5, Math.max(1, each - 1), frame.height - 1);
  pen.globalAlpha = 1;
  const last = Math.min(channels, (at + 1) * group) - 1;
  const name = group > 1 ? `channels ${count(at * group)} to ${count(last)}` : `channel ${at}`;
  const then = Number.isNaN(newLow[at]) ? "removed" : [
    `${short(newLow[at])} to ${short(newHigh[at])} after`, `${Math.round(zeros[at] * 100)} % zeros`, step[at] > 0 ? `step ${short(step[at])}` : "",
  ].filter(Boolean).join(", ");
  return { at, of: total, words: `${name}: ${short(low[at])} to ${short(high[at])} before, ${then}` };
}
