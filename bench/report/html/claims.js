/* Claims with their verdicts, each unfolding into the evidence it stands on. */

const ANSWERS = { supported: ["✓", "yes"], refuted: ["✗", "no"], conditional: ["±", ""] };

function answer(verdict) {
  const [sign, kind] = ANSWERS[verdict.answer] ?? ["○", ""];
  return h("span", { class: `answer ${kind}` }, `${sign} ${verdict.answer}`);
}

/** Of each claim the verdict under the chosen basis, or the one there is. */
function shownVerdicts() {
  const found = new Map();
  for (const verdict of DATA.verdicts) {
    if (!found.has(verdict.id) || verdict.basis === state.basis) found.set(verdict.id, verdict);
  }
  return [...found.values()];
}

/** A table inside an unfolded row; `numbers`: the columns that hold numbers. */
function inner(label, titles, rows, numbers = []) {
  const kind = (i) => (numbers.includes(i) ? "n" : "t");
  return h(
    "div",
    { class: "wide", tabindex: "0", role: "region", "aria-label": label },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          titles.map((title, i) => h("th", { scope: "col", class: kind(i) }, title)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((cells) =>
          h(
            "tr",
            {},
            cells.map((cell, i) => h("td", { class: kind(i) }, cell)),
          ),
        ),
      ),
    ),
  );
}

function pairTable(verdict) {
  const side = (run) => (Number.isInteger(run) ? toRow(run, optionName(ROWS[run])) : h("code", {}, run));
  return inner(
    `Pairs of ${verdict.id}`,
    ["Pair", "Subject", "Baseline", "Ratio", "Holds", "Tier", "Prices and notes"],
    verdict.pairs.map((pair) => [
      [text(pair.label), h("br"), soft(text(pair.part))],
      [side(pair.subject), h("br"), soft(`${digits(pair.values?.[0])} ${text(pair.unit)}`)],
      [side(pair.baseline), h("br"), soft(`${digits(pair.values?.[1])} ${text(pair.unit)}`)],
      numeric(...(pair.ratio ?? [])),
      { true: "yes", false: "no" }[pair.holds] ?? UNKNOWN,
      pair.tier ? tierBadge(pair.tier) : UNKNOWN,
      [...(pair.prices ?? []), ...(pair.notes ?? [])].map(text).concat(text(pair.why)).filter(Boolean).join("; "),
    ]),
    [3],
  );
}

function partTable(verdict) {
  const row = (name, [, claimed, answered, why, pairs, best, median]) => [
    name,
    text(claimed),
    text(answered),
    digits(best),
    numeric(...median),
    String(pairs),
    text(why),
  ];
  return inner(
    `Parts of ${verdict.id}`,
    ["Part", "Claimed", "Answer", "Best", "Median", "Pairs", "Why"],
    [
      ...verdict.parts.map((part) => row(text(part[0]), part)),
      ...(verdict.cuts ?? []).map(([name, ...part]) => row([h("em", {}, "beside the claim: "), text(name)], part)),
    ],
    [3, 4, 5],
  );
}

/** Pairs of the first part, whose best and median stand beside them. */
const firstPairs = (one) => one.parts?.[0]?.[4] ?? one.pair_count;

function evidence(verdict) {
  const pairs = verdict.pairs ?? [],
    left = verdict.pair_count - pairs.length,
    [publisher, ...more] = (verdict.source ?? []).map(text);
  const items = (verdict.left_out ?? []).map(([reason, number, runs]) =>
    h("li", {}, `${text(reason)}: ${plural(number, "result")} (${text(runs)}${number > 5 ? ", …" : ""})`),
  );
  const others = (verdict.elsewhere ?? []).map(([terms, answered, flips]) =>
    h("li", {}, `${text(terms)}: `, flips ? h("strong", {}, text(answered)) : text(answered)),
  );
  return h(
    "div",
    { class: "inner" },
    h(
      "p",
      {},
      text(verdict.statement),
      " ",
      soft(
        publisher ?? "",
        more.map((part) => [", ", outside(part)]),
      ),
    ),
    h("p", {}, text(verdict.sentence)),
    (verdict.parts ?? []).length ? partTable(verdict) : null,
    others.length ? [h("p", {}, "On other terms:"), h("ul", {}, others)] : null,
    pairs.length
      ? h(
          "details",
          { open: pairs.length <= 12 },
          h("summary", {}, plural(verdict.pair_count, "pair")),
          pairTable(verdict),
          left > 0 ? h("p", {}, `${plural(left, "more pair")}: trnbench verdict ${verdict.id} has all.`) : null,
        )
      : null,
    items.length ? h("details", {}, h("summary", {}, "Left out, and why"), h("ul", {}, items)) : null,
  );
}

const CLAIM_COLUMNS = [
  {
    id: "id",
    title: "Claim",
    kind: "w",
    cell: (one) => [h("strong", {}, one.id), " ", one.title],
    sort: (one) => one.id,
    name: (one) => one.id,
  },
  { id: "answer", title: "Answer", cell: answer, sort: (one) => one.answer },
  { id: "best", title: "Best", cell: (one) => digits(one.best), sort: (one) => one.best, number: true },
  {
    id: "median",
    title: "Median",
    cell: (one) => numeric(...(one.median ?? [])),
    sort: (one) => one.median?.[0],
    number: true,
  },
  { id: "pairs", title: "Pairs", cell: (one) => String(firstPairs(one)), sort: firstPairs, number: true },
  {
    id: "tier",
    title: "Weakest tier",
    cell: (one) => (one.tier ? tierBadge(one.tier) : UNKNOWN),
    sort: (one) => one.tier,
  },
  {
    id: "basis",
    title: "Prices",
    cell: (one) => (one.basis ? [one.basis, soft(` of ${one.as_of}`)] : UNKNOWN),
    sort: (one) => one.basis,
  },
  {
    id: "condition",
    title: "Condition",
    kind: "w",
    cell: (one) => text(one.condition),
    sort: (one) => text(one.condition),
  },
];

const CLAIMS = new Table(document.getElementById("claims-table"), {
  columns: CLAIM_COLUMNS,
  rows: [],
  unfold: evidence,
  caption: "Claims",
  sortBy: "id",
});

function drawClaims() {
  CLAIMS.rows = shownVerdicts();
  const elsewhere = CLAIMS.rows.filter((one) => one.basis && one.basis !== state.basis).length;
  document.getElementById("claims-note").textContent = CLAIMS.rows.length
    ? "A ratio above 1: the claim's subject is better, whichever way the metric points. " +
      (elsewhere ? `Judged under another basis than the switch's, as named: ${plural(elsewhere, "claim")}.` : "")
    : "No claim was judged for this page.";
  CLAIMS.draw();
}
