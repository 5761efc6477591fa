/* What costs least under the chosen basis, a card a workload; and the choice of one workload to draw. */

const MOST_CARDS = 9;

function card(decision) {
  const group = GROUPS[decision.group],
    [first, second] = decision.order.map((index) => ROWS[index]);
  const best = money(first),
    items = [];
  if (second) {
    const [times, low, high] = decision.times,
      tie = low !== undefined && low !== null && low <= 1;
    items.push([
      "Next: ",
      toRow(second.index, optionName(second)),
      ` at ${usd(money(second).cost)}, ${digits(times)} times as dear `,
      interval(low, high),
      tie ? [" ", h("strong", {}, "can't be told apart")] : "",
    ]);
    const rate = money(second).rate.usd_per_hour;
    if (decision.flip)
      items.push([`It would be cheapest below ${usd(decision.flip)} an hour `, rate ? `(now ${usd(rate)})` : ""]);
  }
  for (const [basis, index] of decision.others ?? []) {
    items.push([`Under ${basis}: `, toRow(index, optionName(ROWS[index])), ` at ${usd(MONEY[basis][index].cost)}`]);
  }
  if (decision.cheaper !== undefined) {
    const other = ROWS[decision.cheaper];
    items.push([
      `Cheaper in ${other.precision}: `,
      toRow(other.index, optionName(other)),
      ` at ${usd(money(other).cost)}`,
    ]);
  }
  if (decision.unpriced)
    items.push(`${plural(decision.unpriced, "option")} without such a price, e.g. ${text(decision.why)}`);
  return h(
    "article",
    { class: "card" },
    h("h3", {}, group.workload),
    h("p", { class: "what" }, [group.how, group.detail].filter(Boolean).join(", ")),
    h(
      "p",
      { class: "best" },
      toRow(first.index, optionName(first)),
      best.rate.assumption !== undefined ? ` as ${best.rate.instance}` : "",
      " ",
      tierBadge(decision.tier),
    ),
    h("p", { class: "big" }, usd(best.cost)),
    h("p", { class: "what" }, `${group.unit} ${interval(best.cost_low, best.cost_high, usd)}`),
    h("p", { class: "what" }, priceText(best.rate)),
    h(
      "ul",
      {},
      items.map((item) => h("li", {}, item)),
    ),
  );
}

function drawDecisions(all = false) {
  const decisions = DATA.decisions[state.basis],
    real = decisions.filter((one) => one.order.length > 1);
  const lonely = decisions.filter((one) => one.order.length === 1);
  put(
    "cards",
    real.length
      ? real.slice(0, all ? Infinity : MOST_CARDS).map(card)
      : h(
          "p",
          { class: "notice" },
          `No workload has two options with a ${state.basis} price: there is nothing to choose between.`,
        ),
  );
  const more = document.getElementById("more-cards"),
    left = real.length - MOST_CARDS;
  more.hidden = all || left <= 0;
  more.textContent = `${left} more`;
  more.onclick = () => {
    drawDecisions(true);
    document.querySelectorAll("#cards a")[MOST_CARDS]?.focus();
  };
  const place = document.getElementById("lonely");
  place.hidden = !lonely.length;
  place.querySelector("summary").textContent =
    `${plural(lonely.length, "workload")} with one priced option only: nothing to rank`;
  place.querySelector("div").replaceChildren(
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["workload", "option", "cost", "tier"].map((title) => h("th", { scope: "col" }, title)),
        ),
      ),
      h(
        "tbody",
        {},
        lonely.map((one) => {
          const row = ROWS[one.order[0]],
            group = GROUPS[one.group];
          return h(
            "tr",
            {},
            h("td", {}, groupName(group)),
            h("td", {}, toRow(row.index, optionName(row))),
            h("td", { class: "n" }, usd(money(row).cost), h("small", {}, group.unit)),
            h("td", {}, tierBadge(row.tier)),
          );
        }),
      ),
    ),
  );
}

function drawChoice() {
  const counted = GROUPS.map((group) => [new Set(rowsOf(group.index).map(optionName)).size, group])
    .filter(([options]) => options > 0)
    .sort(([a, one], [b, other]) => b - a || groupName(one).localeCompare(groupName(other)));
  const place = document.getElementById("group");
  place.replaceChildren(
    ...counted.map(([options, group]) =>
      h("option", { value: group.index }, `${groupName(group)} (${plural(options, "option")})`),
    ),
  );
  state.group = DATA.decisions[state.basis][0]?.group ?? counted[0]?.[1].index ?? null;
  if (state.group !== null) place.value = state.group;
  place.addEventListener("change", () => {
    state.group = Number(place.value);
    drawWorkload();
  });
}

function drawWorkload() {
  if (state.group === null) return;
  const group = GROUPS[state.group],
    item = group.unit.split("1M ")[1] ?? "items";
  legend(rowsOf(group.index));
  drawPareto(group);
  drawBars(
    "per-chip",
    group,
    `${item} a second and chip`,
    (row) => row.per_chip,
    "No result of this workload states its throughput and its number of chips.",
  );
  drawBars(
    "per-usd",
    group,
    `${item} a dollar`,
    (row) => {
      const m = money(row);
      return [m.per_usd, m.per_usd_low, m.per_usd_high];
    },
    `No result of this workload has a throughput and a ${state.basis} price.`,
  );
}
