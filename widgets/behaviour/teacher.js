// Teacher and student beside each other: accuracy of both, and how often the student gives the teacher's answer.

function teacherPart() {
  const sentence = element("p", { class: "wb-verdict" });
  const head = element("thead");
  const body = element("tbody");
  const table = element("table", { class: "wb-table wb-taught" }, element("caption", { class: "wb-hidden" }, "Teacher and student, class by class"), head, body);
  const note = element("p", { class: "wb-muted wb-note" });
  const root = element("div", { class: "wb-part wb-classes" }, sentence, element("div", { class: "wb-scroll", tabindex: 0, role: "region", "aria-label": "Classes" }, table), note);
  const known = (value, shown) => (value === null ? "–" : shown(value)); // who is right is not known without labels
  const right = (value) => known(value, ([share]) => percent(share));
  const interval = ([value, low, high]) => `${percent(value)} (${number(100 * low, 1)} to ${number(100 * high, 1)})`;
  return {
    root,
    show(data) {
      setText(sentence, spaced(data.sentence));
      head.replaceChildren(element("tr", {}, ...["Class", "Same answer, after (95 %)", "before", "Teacher right", "Student right, after", "before", "only teacher", "only student"].map((title) => element("th", { scope: "col" }, title))));
      const rows = [...data.rows].sort((a, b) => a.agree_after[0] - b.agree_after[0]);
      body.replaceChildren(...[{ ...data.all, name: "All images" }, ...rows].map((row, place) => element("tr", { "data-class": row.name },
        element("th", { scope: "row" }, place ? row.name : element("b", {}, row.name)),
        element("td", {}, element("b", {}, interval(row.agree_after))), element("td", {}, percent(row.agree_before[0])),
        element("td", {}, right(row.teacher)), element("td", {}, right(row.after)), element("td", {}, right(row.before)),
        element("td", {}, known(row.only_teacher, count)), element("td", {}, known(row.only_student, count)))));
      const [before, after] = data.divergence;
      setText(note, `Mean divergence of the student's probabilities from those of ${data.teacher}: ${number(after, 3)} nats after, ${number(before, 3)} before. Least alike first.`);
    },
  };
}
