// The figures where the two main sliders may go next, as `ahead.py` found them. What they are of is told there by the
// other controls; while these stand otherwise here, nothing is foreseen.

const ENTRY = 40;

// `told` is given how many positions are known.
function foresight(model, told) {
  let found = new Map(), place = "", session = "";
  // Settings at their default say as much as none.
  const tidied = (advanced) => {
    const all = model.get("advanced");
    return Object.entries(advanced ?? {}).sort().map(([technique, settings]) => {
      const fields = all.find((entry) => entry.technique === technique)?.fields ?? [];
      const is = (name, value) => fields.some((field) => field.name === name && field.default === value);
      return [technique, Object.entries(settings).filter(([name, value]) => !is(name, value)).sort()];
    }).filter(([, settings]) => settings.length);
  };
  const others = ({ method, granularity, activations, recalibrate, advanced }) => JSON.stringify([method, granularity, activations, recalibrate, tidied(advanced)]);

  function learn() {
    const ahead = model.get("ahead"), { entries } = ahead;
    if (!entries || !ahead.more || others(ahead.others) !== place) found = new Map();
    if (!entries) { told(0); return; }
    [place, session] = [others(ahead.others), ahead.session];
    for (let at = 0; at < entries.byteLength; at += ENTRY) {
      const read = (byte) => entries.getUint32(at + byte, true);
      const recipe = [16, 20].map((byte) => entries.getUint32(at + byte).toString(16).padStart(8, "0")).join("");
      const images = entries.getUint16(at + 2, true);
      const [value, low, high] = [24, 28, 32].map((byte) => read(byte) / 1e6);
      const accuracy = images ? { ...ahead.accuracy, n: images, value, low, high, agreement: entries.getUint16(at + 36, true) / 1e4 } : null;
      const size = { bytes: read(4), entropy: read(8), runtime: read(12) || null, kind: "exact" };
      found.set(`${entries.getUint8(at)} ${entries.getUint8(at + 1)}`, { recipe, size, accuracy });
    }
    told(found.size);
  }

  // Tells whoever shows the session's figures what they are at `state`, or that they are not known; moves are numbered.
  function tell(state, placeOfBits) {
    if (!session) return;
    const figures = others(state) === place ? found.get(`${state.ratio} ${placeOfBits}`) : undefined;
    window.dispatchEvent(new CustomEvent("workbench-moved", { detail: { session, figures: figures ?? null, move: model.get("state").seq } }));
  }

  model.on("change:ahead", learn);
  learn();
  if (model.get("ahead").more) model.send({ do: "ahead" }); // this page has heard only the last of it
  return { tell, end: () => model.off("change:ahead", learn) };
}
