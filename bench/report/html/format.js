"use strict";
/* The data, decoded; numbers as text; elements built without markup from any text. */

const DATA = JSON.parse(document.getElementById("data").textContent);
const UNKNOWN = "–";
const text = (number) => (number === null || number === undefined ? "" : DATA.texts[number]);

const TEXT_COLUMNS = [
  "workload",
  "how",
  "chip",
  "chip_id",
  "vendor",
  "where",
  "precision",
  "sequence",
  "tier",
  "status",
  "date",
  "url",
];

/** A size that is only "published" says nothing. */
const shortName = (workload) => workload.replace(/:published$/, "");
const named = (columns, values) => Object.fromEntries(columns.map((name, i) => [name, values[i] ?? null]));

const ROWS = DATA.rows.map((values, index) => {
  const row = named(DATA.columns, values);
  for (const name of TEXT_COLUMNS) row[name] = text(row[name]);
  row.workload = shortName(row.workload);
  row.index = index;
  row.search = [
    row.run,
    row.workload,
    row.how,
    row.chip,
    row.chip_id,
    row.where,
    row.precision,
    row.tier,
    row.status,
    ...row.facts.map((fact) => text(fact[1])),
  ]
    .join(" ")
    .toLowerCase();
  return row;
});
const MONEY = Object.fromEntries(
  DATA.bases.map((basis) => [
    basis,
    DATA.money[basis].rows.map((values) => {
      const money = named(DATA.money_columns, values);
      money.rate = DATA.money[basis].rates[money.rate];
      return money;
    }),
  ]),
);

const GROUPS = DATA.groups.map((group, index) => ({
  index,
  ...Object.fromEntries(Object.entries(group).map(([name, number]) => [name, shortName(text(number))])),
}));

const state = { basis: DATA.terms.basis, group: null };
const money = (row) => MONEY[state.basis][row.index];
const rowsOf = (group) =>
  ROWS.filter((row) => row.group === group && row.tier !== "emulated" && row.status === "valid");

/** Four significant digits, thousands parted: as `bench.report.text.number`. */
function digits(value) {
  if (value === null || value === undefined) return UNKNOWN;
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e9 || size < 1e-3) return value.toExponential(3);
  const places = Math.max(0, 3 - Math.floor(Math.log10(size)));
  return value.toLocaleString("en-GB", { minimumFractionDigits: places, maximumFractionDigits: places });
}
const usd = (value) => (value === null || value === undefined ? UNKNOWN : `$${digits(value)}`);
const percent = (share) => (share === null || share === undefined ? UNKNOWN : `${(share * 100).toPrecision(3)} %`);
const interval = (low, high, show = digits) =>
  low === null || low === undefined || high === null || high === undefined ? "" : `[${show(low)}, ${show(high)}]`;
const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en-GB")} ${count === 1 ? one : many}`;

/** An element; texts among its children stay texts, whatever is in them. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}
const put = (id, ...children) =>
  document.getElementById(id).replaceChildren(...children.flat(Infinity).filter(Boolean));

const soft = (...parts) => h("small", { class: "soft" }, parts);
/** A number with its interval below it. */
const numeric = (value, low, high, show = digits) => [
  show(value),
  interval(low, high, show) ? h("small", {}, interval(low, high, show)) : null,
];

/** A link for http and https; any other address stays text. */
function outside(address, label = address) {
  let known = null;
  try {
    known = new URL(address);
  } catch {
    return label;
  }
  if (known.protocol !== "https:" && known.protocol !== "http:") return label;
  return h("a", { href: known.href, rel: "noopener noreferrer", target: "_blank" }, label);
}

const tierBadge = (tier) => h("span", { class: `tier ${tier}` }, tier);
const toRow = (index, label) => h("a", { href: `#run-${index}` }, label);
const optionName = (row) =>
  !row.where || row.where.includes(row.chip) ? row.where || chips(row) : `${row.where} (${chips(row)})`;
const chips = (row) => (row.chips && row.chips > 1 ? `${row.chips} × ${row.chip}` : row.chip || row.where);
const groupName = (group) => [group.workload, group.how, group.detail].filter(Boolean).join(", ");

/** What a price rests on, in one line. */
function priceText(rate) {
  if (!rate.usd_per_hour) return text(rate.why);
  const parts = [`${usd(rate.usd_per_hour)} an hour`, rate.price];
  if (rate.share && rate.whole && rate.whole !== rate.usd_per_hour)
    parts.push(`${percent(rate.share)} of ${usd(rate.whole)}`);
  return [...parts, text(rate.assumption), ...(rate.notes ?? []).map(text)].filter(Boolean).join("; ");
}
