// A layer's singular values: grey before, accent after, and a line at the rank where the weight after ends.

// Returns the share of the energy (squared values) in the first 1, 2, ... values.
function energyOf(values) {
  const shares = new Float64Array(values.length);
  let sum = 0;
  for (let index = 0; index < values.length; index += 1) shares[index] = sum += values[index] * values[index];
  return sum > 0 ? shares.map((share) => share / sum) : shares;
}

function logSteps(low, high, wanted) {
  const steps = [];
  const decades = Math.max(1, Math.ceil(Math.log10(high / low) / Math.max(1, wanted)));
  const factors = Math.log10(high / low) < 1.3 ? [1, 2, 5] : [1];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += decades) {
    for (const factor of factors) if (factor * 10 ** power >= low && factor * 10 ** power <= high) steps.push(factor * 10 ** power);
  }
  return steps;
}

function drawSpectrum(pen, { width, height }, colour, { before, after, rank, log, hover }) {
  const frame = frameOf(width, height, false);
  const total = before.length;
  const top = Math.max(before[0] || 0, after[0] || 0) || 1;
  // What stands below a ten-thousandth of the largest is rounding, or as good as nothing: it has no bar.
  const low = log ? Math.max(top * 1e-4, 0.6 * before.reduce((least, value) => (value > top * 1e-4 ? Math.min(least, value) : least), top)) : 0;
  const level = (value) => (log ? (value > low ? Math.log(value / low) / Math.log(top / low) : 0) : value / top);
  const y = (value) => frame.floor - level(value) * (frame.height - 4);
  const each = frame.width / total;
  const x = (index) => frame.left + index * each;

  const wanted = Math.max(2, Math.floor(frame.height / 34));
  levelLines(pen, frame, colour, log ? logSteps(low, top, wanted) : axisSteps(0, top, wanted), y, short);
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (const step of axisSteps(1, total, Math.max(2, Math.floor(frame.width / 55)), true).filter((step) => step >= 1)) {
    pen.fillText(count(step), x(step - 0.5), frame.floor + 6);
  }
  const bars = (values, share) => {
    const wide = each >= 3 ? Math.max(1, each * share) : Math.max(1, each);
    for (let index = 0; index < total; index += 1) {
      const at = y(values[index]);
      if (at < frame.floor) pen.fillRect(x(index) + (each - wide) / 2, at, wide, frame.floor - at);
    }
  };
  pen.fillStyle = colour("base");
  pen.globalAlpha = 0.45;
  bars(before, 0.86);
  pen.fillStyle = colour("accent");
  pen.globalAlpha = each >= 3 ? 0.9 : 0.6;
  bars(after, 0.46);
  pen.globalAlpha = 1;
  if (rank < total) dashed(pen, colour, [[x(rank), frame.top, x(rank), frame.floor]]);
  ground(pen, frame, colour);

  const [energy, energyAfter] = [energyOf(before), energyOf(after)];
  const at = hover == null ? -1 : Math.floor((hover - frame.left) / each);
  if (!(at >= 0 && at < total)) {
    const reach = (share) => count(energy.findIndex((kept) => kept >= share) + 1);
    const words = energy[total - 1] > 0 ? `90 % of the energy in ${reach(0.9)} of ${count(total)}, 99 % in ${reach(0.99)}` : "all singular values are zero";
    const cut = rank < total ? `rank ${count(rank)} after` : "";
    return { at: -1, of: total, words: "", rest: [words, cut].filter(Boolean).join(" · "), brief: cut || `90 % of energy: ${reach(0.9)} of ${total}` };
  }
  pen.strokeStyle = colour("text");
  pen.globalAlpha = 0.5;
  pen.strokeRect(x(at) + 0.5, frame.top + 0.5, Math.max(1, each - 1), frame.height - 1);
  pen.globalAlpha = 1;
  return {
    at, of: total,
    words: `rank ${count(at + 1)}: ${percent(energy[at])} of the energy before, ${percent(energyAfter[at])} after · value ${short(before[at])} before, ${short(after[at])} after`,
  };
}
