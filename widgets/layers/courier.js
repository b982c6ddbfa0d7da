// Messages to the kernel that a hand makes faster than the kernel answers: one in flight at a time, and of
// several wishes for the same thing only the newest is sent. Each has a growing `seq`; the kernel answers
// every message with it and a `problem`, one sentence or nothing.

function courier(model, answered) {
  const waiting = new Map();
  let flying = null;
  let last = Date.now() * 1000; // so that no two windows on one kernel use the same numbers
  const next = () => {
    const [first] = waiting;
    if (flying || !first) return;
    waiting.delete(first[0]);
    flying = first[1];
    model.send(flying);
  };
  const onAnswer = ({ seq, problem }) => {
    if (!flying || seq !== flying.seq) return;
    const asked = flying;
    flying = null;
    next();
    answered(asked, problem);
  };
  model.on("msg:custom", onAnswer);
  // What was in flight while the connection went dead may be lost, and its answer with it; twice does no harm.
  const sendAgain = () => { if (flying) model.send(flying); };
  window.addEventListener("workbench-reconnected", sendAgain);
  return {
    // Returns the message's number; `about` tells which earlier wish it replaces.
    ask(about, content) {
      const seq = (last += 1);
      waiting.delete(about);
      waiting.set(about, { ...content, seq });
      next();
      return seq;
    },
    quiet: () => !flying && !waiting.size,
    end: () => { model.off("msg:custom", onAnswer); window.removeEventListener("workbench-reconnected", sendAgain); },
  };
}
