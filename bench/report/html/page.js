/* The page: its switch, decisions, tables and claims, and the way from any number to its record. */

const PRICES = DATA.prices.map((values) => {
  const price = named(DATA.price_columns, values);
  for (const name of ["instance", "region", "basis", "date", "source", "note"]) price[name] = text(price[name]);
  return price;
});
const GROUPS = DATA.groups.map((group, index) => ({ index, ...Object.fromEntries(
  Object.entries(group).map(([name, number]) => [name, text(number)])) }));
const MOST_CARDS = 9;

/* ---- the switch ---- */

function drawSwitch() {
  put("bases", DATA.bases.map((basis) => {
    const priced = MONEY[basis].filter((one) => one.cost !== null).length;
    return h("label", {}, h("input", { type: "radio", name: "basis", value: basis, checked: basis === state.basis,
      onchange: () => { state.basis = basis; drawMoney(); } }), `${basis} (${priced})`);
  }));
  document.getElementById("switch").addEventListener("submit", (event) => event.preventDefault());
}

function drawTerms() {
  const { region, as_of, attribution, usd_per_hour } = DATA.terms;
  const charged = attribution === "chips" ? "only the chips in use are charged" : "whole instances are charged";
  const own = state.basis === "user" && usd_per_hour ? `your own ${usd(usd_per_hour)} an hour` : `${state.basis} prices`;
  document.getElementById("terms").textContent = `Every amount is at ${own} of ${as_of}, ` +
    `${region ? `in ${region}` : "each in its own region or the cheapest known"}; ${charged}.`;
}

/* ---- decisions ---- */

function card(decision) {
  const group = GROUPS[decision.group], [first, second] = decision.order.map((index) => ROWS[index]);
  const best = money(first), items = [];
  if (second) {
    const [times, low, high] = decision.times, tie = low !== undefined && low !== null && low <= 1;
    items.push(["Next: ", toRow(second.index, optionName(second)), ` at ${usd(money(second).cost)}, ${digits(times)} times as dear `,
      interval(low, high), tie ? [" ", h("strong", {}, "can't be told apart")] : ""]);
    const rate = money(second).rate.usd_per_hour;
    if (decision.flip) items.push([`It would be cheapest below ${usd(decision.flip)} an hour `, rate ? `(now ${usd(rate)})` : ""]);
  }
  for (const [basis, index] of decision.others ?? []) {
    items.push([`Under ${basis}: `, toRow(index, optionName(ROWS[index])), ` at ${usd(MONEY[basis][index].cost)}`]);
  }
  if (decision.cheaper !== undefined) {
    const other = ROWS[decision.cheaper];
    items.push([`Cheaper in ${other.precision}: `, toRow(other.index, optionName(other)), ` at ${usd(money(other).cost)}`]);
  }
  if (decision.unpriced) items.push(`${plural(decision.unpriced, "option")} without such a price, e.g. ${text(decision.why)}`);
  return h("article", { class: "card" }, h("h3", {}, group.workload), h("p", { class: "what" },
    [group.how, group.detail].filter(Boolean).join(", ")),
  h("p", { class: "best" }, toRow(first.index, optionName(first)), " ", tierBadge(decision.tier)),
  h("p", { class: "big" }, usd(best.cost)), h("p", { class: "what" }, `${group.unit} ${interval(best.cost_low, best.cost_high, usd)}`),
  h("p", { class: "what" }, priceText(best.rate)), h("ul", {}, items.map((item) => h("li", {}, item))));
}

function drawDecisions(all = false) {
  const decisions = DATA.decisions[state.basis], real = decisions.filter((one) => one.order.length > 1);
  const lonely = decisions.filter((one) => one.order.length === 1);
  put("cards", real.length ? real.slice(0, all ? Infinity : MOST_CARDS).map(card)
    : h("p", { class: "notice" }, `No workload has two options with a ${state.basis} price: there is nothing to choose between.`));
  const more = document.getElementById("more-cards"), left = real.length - MOST_CARDS;
  more.hidden = all || left <= 0;
  more.textContent = `${left} more`;
  more.onclick = () => { drawDecisions(true); document.querySelectorAll("#cards a")[MOST_CARDS]?.focus(); };
  const place = document.getElementById("lonely");
  place.hidden = !lonely.length;
  place.querySelector("summary").textContent = `${plural(lonely.length, "workload")} with one priced option only: nothing to rank`;
  place.querySelector("div").replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, ["workload", "option", "cost", "tier"]
    .map((title) => h("th", { scope: "col" }, title)))), h("tbody", {}, lonely.map((one) => {
    const row = ROWS[one.order[0]], group = GROUPS[one.group];
    return h("tr", {}, h("td", {}, groupName(group)), h("td", {}, toRow(row.index, optionName(row))),
      h("td", { class: "n" }, usd(money(row).cost), h("small", {}, group.unit)), h("td", {}, tierBadge(row.tier)));
  }))));
}

/* ---- one workload ---- */

function drawChoice() {
  const counted = GROUPS.map((group) => [new Set(rowsOf(group.index).map(optionName)).size, group])
    .filter(([options]) => options > 0).sort(([a, one], [b, other]) => b - a || groupName(one).localeCompare(groupName(other)));
  const place = document.getElementById("group");
  place.replaceChildren(...counted.map(([options, group]) => h("option", { value: group.index },
    `${groupName(group)} (${plural(options, "option")})`)));
  state.group = counted[0]?.[1].index ?? null;
  place.addEventListener("change", () => { state.group = Number(place.value); drawWorkload(); });
}

function drawWorkload() {
  if (state.group === null) return;
  const group = GROUPS[state.group], item = (group.unit.split("1M ")[1] ?? "items");
  legend(rowsOf(group.index));
  drawPareto(group);
  drawBars("per-chip", group, `${item} a second and chip`, (row) => row.per_chip,
    "No result of this workload states its throughput and its number of chips.");
  drawBars("per-usd", group, `${item} a dollar`, (row) => { const m = money(row); return [m.per_usd, m.per_usd_low, m.per_usd_high]; },
    `No result of this workload has a throughput and a ${state.basis} price.`);
}

/* ---- results ---- */

const numeric = (value, low, high, show = digits) => [show(value), interval(low, high, show) ? h("small", {}, interval(low, high, show)) : null];
const costUnit = (row) => GROUPS[row.group].unit.replace("USD per ", "");

const RESULT_COLUMNS = [
  { id: "workload", title: "Workload", cell: (row) => [row.workload, h("br"), h("small", { class: "soft" }, row.how)],
    sort: (row) => row.workload + row.how, name: (row) => `${row.workload} on ${optionName(row)}` },
  { id: "chip", title: "Chip", cell: chips, sort: (row) => row.chip },
  { id: "where", title: "Ran on", cell: (row) => row.where, sort: (row) => row.where },
  { id: "precision", title: "Precision", cell: (row) => row.precision, sort: (row) => row.precision },
  { id: "sequence", title: "Sequence", cell: (row) => row.sequence || UNKNOWN, sort: (row) => row.sequence, number: true },
  { id: "batch", title: "Batch", cell: (row) => String(row.batch), sort: (row) => row.batch, number: true },
  { id: "tier", title: "Tier", cell: (row) => [tierBadge(row.tier), row.status === "valid" ? null : [" ", h("span", { class: "flag" }, row.status)]],
    sort: (row) => row.tier },
  { id: "rate", title: "Per second", cell: (row) => numeric(...row.rate), sort: (row) => row.rate[0], number: true },
  { id: "chip-rate", title: "Per second, chip", cell: (row) => numeric(...row.per_chip), sort: (row) => row.per_chip[0], number: true },
  { id: "latency", title: "Latency ms", cell: (row) => (row.latency.length ? [digits(row.latency[1]), h("small", {}, text(row.latency[0]))] : UNKNOWN),
    sort: (row) => row.latency[1], number: true },
  { id: "cost", title: "Cost", cell: (row) => { const m = money(row); return [usd(m.cost), h("small", {}, `${costUnit(row)} ${interval(m.cost_low, m.cost_high, usd)}`),
    m.rate.stale && m.cost !== null ? h("span", { class: "flag" }, "old price") : null]; }, sort: (row) => money(row).cost, number: true },
  { id: "per-usd", title: "Items a dollar", cell: (row) => { const m = money(row); return numeric(m.per_usd, m.per_usd_low, m.per_usd_high); },
    sort: (row) => money(row).per_usd, number: true },
  ...(DATA.baseline ? [{ id: "times", title: `Cheaper than ${DATA.baseline}, times`, cell: (row) => { const m = money(row); return numeric(m.times, m.times_low, m.times_high); },
    sort: (row) => money(row).times, number: true }] : []),
  { id: "mfu", title: "MFU", cell: (row) => percent(row.mfu), sort: (row) => row.mfu, number: true },
  { id: "date", title: "Date", cell: (row) => row.date, sort: (row) => row.date },
];

function facts(row) {
  const m = money(row), pairs = row.facts.map(([label, fact]) => [text(label), text(fact)]);
  const costs = [["price", priceText(m.rate)], ["cost", m.cost === null ? text(m.why) : `${usd(m.cost)} ${interval(m.cost_low, m.cost_high, usd)} ${GROUPS[row.group].unit}`],
    ["all in, a job of an hour", m.all_in === null ? null : usd(m.all_in)], ["joules an item", row.joules === null ? null : digits(row.joules)]];
  const address = row.url ? [["address", outside(row.url)]] : [];
  return h("dl", {}, [["run", h("code", {}, row.run)], ...pairs, ...address, ...costs].filter(([, fact]) => fact)
    .map(([label, fact]) => [h("dt", {}, label), h("dd", {}, fact)]));
}

function resultTable(id, rows, caption) {
  return new Table(document.getElementById(id), { columns: RESULT_COLUMNS, rows, unfold: facts, rowId: (row) => `run-${row.index}`,
    caption, sortBy: "workload" });
}

const RESULTS = resultTable("results-table", ROWS.filter((row) => row.tier !== "emulated"), "Results");
const EMULATED = resultTable("emulated-table", ROWS.filter((row) => row.tier === "emulated"), "Emulated results");

function choiceOf(label, values, change) {
  const place = h("select", { onchange: change }, h("option", { value: "" }, "all"), values.map((value) => h("option", { value }, value)));
  return { place, label: h("label", {}, `${label} `, place) };
}

function drawFilters(table) {
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean), tiers = boxes.filter((box) => box.checked).map((box) => box.value);
    table.filter((row) => tiers.includes(row.tier) && (!workload.place.value || row.workload === workload.place.value)
      && (!chip.place.value || row.chip === chip.place.value) && words.every((word) => row.search.includes(word)));
  };
  const values = (read) => [...new Set(table.rows.map(read))].filter(Boolean).sort((a, b) => a.localeCompare(b));
  const boxes = values((row) => row.tier).map((tier) => h("input", { type: "checkbox", value: tier, checked: true, onchange: apply }));
  const workload = choiceOf("Workload", values((row) => row.workload), apply), chip = choiceOf("Chip", values((row) => row.chip), apply);
  const search = h("input", { type: "search", oninput: apply });
  table.place.prepend(h("div", { class: "controls" }, h("label", {}, "Text ", search), workload.label, chip.label,
    h("fieldset", {}, h("legend", {}, "Tier"), boxes.map((box) => h("label", {}, box, tierBadge(box.value))))));
}

/* ---- claims ---- */

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
  return h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, h("table", {},
    h("thead", {}, h("tr", {}, titles.map((title, i) => h("th", { scope: "col", class: kind(i) }, title)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, i) => h("td", { class: kind(i) }, cell)))))));
}

const soft = (...parts) => h("small", { class: "soft" }, parts);

function pairTable(verdict) {
  const side = (run) => (Number.isInteger(run) ? toRow(run, optionName(ROWS[run])) : h("code", {}, run));
  return inner(`Pairs of ${verdict.id}`, ["Pair", "Subject", "Baseline", "Ratio", "Holds", "Tier", "Prices and notes"],
    verdict.pairs.map((pair) => [
      [text(pair.label), h("br"), soft(text(pair.part))],
      [side(pair.subject), h("br"), soft(`${digits(pair.values?.[0])} ${text(pair.unit)}`)],
      [side(pair.baseline), h("br"), soft(`${digits(pair.values?.[1])} ${text(pair.unit)}`)],
      numeric(...(pair.ratio ?? [])), { true: "yes", false: "no" }[pair.holds] ?? UNKNOWN, pair.tier ? tierBadge(pair.tier) : UNKNOWN,
      [...(pair.prices ?? []), ...(pair.notes ?? [])].map(text).concat(text(pair.why)).filter(Boolean).join("; ")]), [3]);
}

function partTable(verdict) {
  const row = (name, [, claimed, answered, why, pairs, best, median]) => [name, text(claimed), text(answered), digits(best),
    numeric(...median), String(pairs), text(why)];
  return inner(`Parts of ${verdict.id}`, ["Part", "Claimed", "Answer", "Best", "Median", "Pairs", "Why"],
    [...verdict.parts.map((part) => row(text(part[0]), part)),
      ...(verdict.cuts ?? []).map(([name, ...part]) => row([h("em", {}, "beside the claim: "), text(name)], part))], [3, 4, 5]);
}

function evidence(verdict) {
  const pairs = verdict.pairs ?? [], left = verdict.pair_count - pairs.length, [publisher, ...more] = (verdict.source ?? []).map(text);
  const items = (verdict.left_out ?? []).map(([reason, number, runs]) =>
    h("li", {}, `${text(reason)}: ${plural(number, "result")} (${text(runs)}${number > 5 ? ", …" : ""})`));
  const others = (verdict.elsewhere ?? []).map(([terms, answered, flips]) => h("li", {}, `${text(terms)}: `, flips ? h("strong", {}, text(answered)) : text(answered)));
  return h("div", { class: "inner" },
    h("p", {}, text(verdict.statement), " ", soft(publisher ?? "", more.map((part) => [", ", outside(part)]))),
    h("p", {}, h("strong", {}, text(verdict.sentence))),
    (verdict.parts ?? []).length ? partTable(verdict) : null,
    others.length ? [h("p", {}, "On other terms:"), h("ul", {}, others)] : null,
    pairs.length ? h("details", { open: pairs.length <= 12 }, h("summary", {}, plural(verdict.pair_count, "pair")), pairTable(verdict),
      left > 0 ? h("p", {}, `${plural(left, "more pair")}: trnbench verdict ${verdict.id} has all.`) : null) : null,
    items.length ? h("details", {}, h("summary", {}, "Left out, and why"), h("ul", {}, items)) : null);
}

const CLAIM_COLUMNS = [
  { id: "id", title: "Claim", cell: (one) => [h("strong", {}, one.id), " ", one.title], sort: (one) => one.id, name: (one) => one.id },
  { id: "answer", title: "Answer", cell: answer, sort: (one) => one.answer },
  { id: "best", title: "Best", cell: (one) => digits(one.best), sort: (one) => one.best, number: true },
  { id: "median", title: "Median", cell: (one) => numeric(...(one.median ?? [])), sort: (one) => one.median?.[0], number: true },
  { id: "pairs", title: "Pairs", cell: (one) => String(one.pair_count), sort: (one) => one.pair_count, number: true },
  { id: "tier", title: "Weakest tier", cell: (one) => (one.tier ? tierBadge(one.tier) : UNKNOWN), sort: (one) => one.tier },
  { id: "basis", title: "Prices", cell: (one) => [one.basis ?? UNKNOWN, one.as_of ? h("small", { class: "soft" }, ` of ${one.as_of}`) : null], sort: (one) => one.basis },
  { id: "condition", title: "Condition", cell: (one) => text(one.condition), sort: (one) => text(one.condition) },
];

const CLAIMS = new Table(document.getElementById("claims-table"), { columns: CLAIM_COLUMNS, rows: [], unfold: evidence, caption: "Claims", sortBy: "id" });

function drawClaims() {
  CLAIMS.rows = shownVerdicts();
  const elsewhere = CLAIMS.rows.filter((one) => one.basis && one.basis !== state.basis).length;
  document.getElementById("claims-note").textContent = CLAIMS.rows.length
    ? "A ratio above 1: the claim's subject is better, whichever way the metric points. " +
      (elsewhere ? `${plural(elsewhere, "claim")} ${elsewhere === 1 ? "is" : "are"} judged under another basis than the switch's, as named.` : "")
    : "No claim was judged for this page.";
  CLAIMS.draw();
}

/* ---- prices ---- */

const PRICE_TABLE = new Table(document.getElementById("prices-table"), { caption: "Prices", rows: PRICES, sortBy: "instance", columns: [
  { id: "instance", title: "Instance", cell: (one) => one.instance, sort: (one) => one.instance },
  { id: "region", title: "Region", cell: (one) => one.region, sort: (one) => one.region },
  { id: "basis", title: "Basis", cell: (one) => one.basis, sort: (one) => one.basis },
  { id: "usd", title: "USD an hour", cell: (one) => digits(one.usd_per_hour), sort: (one) => one.usd_per_hour, number: true },
  { id: "date", title: "From", cell: (one) => one.date, sort: (one) => one.date },
  { id: "source", title: "Source", cell: (one) => [outside(one.source), one.note ? h("small", { class: "soft" }, ` ${one.note}`) : null], sort: (one) => one.source },
] });

function drawPriceFilter() {
  const search = h("input", { type: "search", oninput: () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    PRICE_TABLE.filter((one) => words.every((word) => `${one.instance} ${one.region} ${one.basis} ${one.date}`.toLowerCase().includes(word)));
  } });
  PRICE_TABLE.place.prepend(h("div", { class: "controls" }, h("label", {}, "Instance, region, basis or date ", search)));
}

/* ---- all of it ---- */

function drawCharts() { drawWorkload(); drawRoofline(); drawPhases(); drawHistory(); }

function drawMoney() {
  drawTerms(); drawDecisions(); drawWorkload(); drawHistory(); drawClaims();
  RESULTS.draw(); EMULATED.draw();
}

function drawAbout() {
  const counts = DATA.tiers.map(([tier, number]) => `${number.toLocaleString("en-GB")} ${tier}`).join(", ");
  document.getElementById("about").textContent = `${counts || "no"} results; made by ${DATA.tool} on ${DATA.made}.`;
  document.getElementById("results-note").textContent = DATA.hidden
    ? `${plural(DATA.hidden, "further result")} ${DATA.hidden === 1 ? "is" : "are"} not shown, to keep the page small: ` +
      "trnbench report --format csv has every one. Each option's fastest result is shown, so that no decision lacks one." : "";
  put("problems", DATA.problems.length ? h("details", { class: "notice" }, h("summary", {}, `${plural(DATA.problems.length, "file")} could not be read`),
    h("ul", {}, DATA.problems.map((problem) => h("li", {}, problem)))) : null);
  document.getElementById("emulated").hidden = !EMULATED.rows.length;
}

/** Go to the record that the address names. */
function follow() {
  const found = /^#run-(\d+)$/.exec(location.hash), row = found ? ROWS[Number(found[1])] : null;
  if (row) RESULTS.reveal(row) || EMULATED.reveal(row);
}

drawAbout(); drawSwitch(); drawChoice(); drawFilters(RESULTS); drawPriceFilter();
drawMoney(); drawRoofline(); drawPhases(); PRICE_TABLE.draw();
follow();
window.addEventListener("hashchange", follow);
document.addEventListener("click", (event) => { // a second click on one link changes no address
  const link = event.target.closest?.("a[href^='#run-']");
  if (link && link.hash === location.hash) follow();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
window.addEventListener("beforeprint", () => { RESULTS.limit = Infinity; RESULTS.draw(); drawCharts(); });
window.addEventListener("afterprint", () => { RESULTS.limit = STEP; RESULTS.draw(); drawCharts(); });
