// The page of a served bundle: a history or a user, and their lists at every granularity.
const K = 10;
const $ = (id) => document.getElementById(id);
const state = { bundle: null, sizes: [], user: null, history: [], where: {}, lists: new Map(), run: 0 };

// Makes an element: make("li", {class: "none"}, "text", child, ...).
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function svg(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

async function ask(path, body) {
  for (;;) {
    const headers = { "X-API-Key": sessionStorage.getItem("key") || "" };
    if (body) headers["Content-Type"] = "application/json";
    const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
    if (answer.status === 401) { await askForKey(); continue; }
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.detail || `the server answers ${answer.status}`);
    return found;
  }
}

let asking = null;
function askForKey() {
  asking ??= new Promise((resolve) => {
    $("key-dialog").showModal();
    $("key-dialog").addEventListener("close", () => {
      sessionStorage.setItem("key", $("key").value);
      asking = null;
      resolve();
    }, { once: true });
  });
  return asking;
}

const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

function note(text, wrong = false) {
  $("note").textContent = text;
  $("note").classList.toggle("wrong", wrong);
}

// The lists -------------------------------------------------------------------------------------

function request(size) {
  const bundle = state.bundle;
  const columns = bundle.columns.filter((name) => name === bundle.title || name in bundle.categories);
  const person = state.user !== null ? { user: state.user } : { history: state.history.map((item) => item.item_id) };
  // What is put together on the page was all taken just now.
  if (person.history && state.bundle.reads_time !== "none") person.times = person.history.map(() => Math.floor(Date.now() / 1000));
  return { ...person, k: Math.min(K, bundle.limits.k), granularity: size, where: state.where, columns };
}

async function refresh() {
  const run = ++state.run;
  state.lists.clear();
  $("lists").setAttribute("aria-busy", "true");
  showHistory();
  try {
    // The full width first: everything is compared with it. Each alone, so that times are its own.
    for (const size of [...state.sizes].reverse()) {
      const found = await ask("/v1/recommend", request(size));
      if (run !== state.run) return;
      state.lists.set(size, found);
      show();
    }
  } catch (error) {
    if (run === state.run) { note(error.message, true); show(); }
  }
  if (run === state.run) $("lists").setAttribute("aria-busy", "false");
}

function show() {
  const size = state.sizes[$("size").valueAsNumber];
  const full = state.lists.get(state.sizes.at(-1));
  const list = state.lists.get(size);
  const cost = state.bundle.granularities.find((each) => each.size === size);
  $("size").setAttribute("aria-valuetext", `${size} of ${state.sizes.at(-1)} coordinates`);
  [...$("ticks").children].forEach((tick, place) => tick.classList.toggle("on", place === $("size").valueAsNumber));
  $("short-name").textContent = `By ${size} coordinates`;
  $("full-name").textContent = `By all ${state.sizes.at(-1)} coordinates`;
  $("bytes").textContent = whole.format(cost.bytes);
  $("work").textContent = short.format(cost.multiply_adds);
  $("took").textContent = list && list.source !== "popularity" ? `${list.search_ms.toFixed(2)} ms` : "–";
  drawPlot();
  if (!list || !full) { $("overlap").textContent = "–"; fill("short", list); fill("full", full); return; }
  const places = new Map(full.items.map((item) => [item.item_id, item.rank]));
  const here = new Map(list.items.map((item) => [item.item_id, item.rank]));
  const same = list.items.filter((item) => places.has(item.item_id)).length;
  $("overlap").textContent = `${same} of ${full.items.length}`;
  fill("short", list, (item) => {
    const before = places.get(item.item_id);
    if (before === undefined) return ["new", "not in the full list"];
    if (before === item.rank) return ["=", "same place"];
    const by = before - item.rank;
    return [by > 0 ? `▲ ${by}` : `▼ ${-by}`, `place ${before} by all coordinates`];
  });
  fill("full", full, (item) => (here.has(item.item_id) ? null : ["gone", "not in the list of the prefix"]));
  const unknown = full.unknown.length ? ` Unknown: ${full.unknown.join(", ")}.` : "";
  note(full.source === "popularity"
    ? `Nothing is known yet: these are the most popular items.${unknown}`
    : `${same} of ${full.items.length} items are the same with ${size} of ${state.sizes.at(-1)} coordinates.${unknown}`);
}

function fill(id, list, moved = () => null) {
  const rows = (list?.items ?? []).map((item) => {
    const columns = item.columns ?? {};
    const title = columns[state.bundle.title] ?? item.item_id;
    const more = Object.entries(columns).filter(([name]) => name !== state.bundle.title)
      .map(([, value]) => (Array.isArray(value) ? value.join(", ") : String(value ?? "").replaceAll("|", ", ")));
    const told = moved(item);
    const kind = told === null ? "" : told[0] === "=" ? "same" : told[0];
    const row = make("li", told?.[0] === "gone" ? { class: "gone" } : {}, make("span", {}, String(title),
      make("span", { class: "more" }, more.join(" · "))));
    if (told) row.append(make("span", { class: `moved ${kind}`, title: told[1], "aria-label": told[1] }, told[0]));
    return row;
  });
  $(id).replaceChildren(...rows);
}

// For whom --------------------------------------------------------------------------------------

function showHistory() {
  const rows = state.history.map((item, place) => make("li", {}, make("span", {}, item.title),
    state.user === null
      ? make("button", { class: "quiet", type: "button", "aria-label": `Remove ${item.title}`, onclick: () => remove(place) }, "Remove")
      : ""));
  if (!rows.length) rows.push(make("li", { class: "none" }, "Empty: search a title above."));
  $("history").replaceChildren(...rows);
  const more = state.length > state.history.length ? `, newest ${state.history.length} of ${state.length}` : "";
  $("history-name").textContent = state.user === null ? "History" : `History of user ${state.user}${more}`;
  $("clear").hidden = !state.history.length && state.user === null;
}

function remove(place) {
  state.history.splice(place, 1);
  refresh();
  const buttons = $("history").querySelectorAll("button");
  (buttons[Math.min(place, buttons.length - 1)] ?? $("title")).focus();
}

let picks = 0;
async function pick(user) {
  // What is asked for later counts, whichever answer comes first; lists under way go on meanwhile.
  const [pick, run] = [++picks, state.run];
  const late = () => pick !== picks || run !== state.run;
  try {
    const found = await ask(`/v1/users/${encodeURIComponent(user)}`);
    if (late()) return;
    Object.assign(state, { user: found.user_id, history: found.latest, length: found.length });
    await refresh();
  } catch (error) { if (!late()) note(error.message, true); }
}

function add(item) {
  if (state.user !== null) Object.assign(state, { user: null, history: [], length: 0 });
  $("user").value = ""; // the lists are not of that user any more
  if (!state.history.some((each) => each.item_id === item.item_id)) state.history.push(item);
  $("title").value = "";
  close();
  refresh();
}

// While an answer is under way nothing can be picked by keyboard: the list is of an older text.
let found = [], active = -1, searches = 0;
function close() {
  $("found").hidden = true;
  $("title").setAttribute("aria-expanded", "false");
  select(-1);
}

async function search() {
  const run = ++searches;
  const text = $("title").value.trim();
  found = [];
  if (!text) { close(); return; }
  select(-1);
  $("found").setAttribute("aria-busy", "true");
  try {
    const answer = await ask(`/v1/items?limit=8&query=${encodeURIComponent(text)}`);
    if (run !== searches || $("title").value.trim() !== text) return;
    found = answer.items;
    $("found").setAttribute("aria-busy", "false");
    $("found").replaceChildren(...(found.length
      ? found.map((item, place) => make("li", { role: "option", id: `found-${place}`, onpointerdown: (event) => { event.preventDefault(); add(item); } }, item.title))
      : [make("li", { class: "none" }, "no title has these words")]));
    $("found").hidden = false;
    $("title").setAttribute("aria-expanded", "true");
    select(found.length ? 0 : -1);
  } catch (error) { if (run === searches) { close(); note(error.message, true); } }
}

function select(place) {
  active = place;
  [...$("found").children].forEach((row, at) => {
    row.setAttribute("aria-selected", String(at === place));
    if (at === place) row.scrollIntoView({ block: "nearest" });
  });
  if (place >= 0) $("title").setAttribute("aria-activedescendant", `found-${place}`);
  else $("title").removeAttribute("aria-activedescendant");
}

// The trade-off ---------------------------------------------------------------------------------

// Round numbers of an axis: of a range, and of a range of logarithms (then the numbers themselves).
function roundTicks(low, high, most) {
  const step = [1, 2, 2.5, 5, 10].map((each) => each * 10 ** Math.floor(Math.log10((high - low) / most)))
    .find((each) => Math.floor(high / each) - Math.ceil(low / each) < most);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, place) => (first + place) * step);
}

function roundPowers(low, high, most) {
  const between = (factors) => {
    const found = [];
    for (let power = Math.floor(low / Math.LN10); power <= high / Math.LN10; power++) {
      for (const factor of factors) found.push(factor * 10 ** power);
    }
    return found.filter((value) => Math.log(value) >= low - 1e-9 && Math.log(value) <= high + 1e-9);
  };
  const choices = [[1, 1.5, 2, 3, 4, 5, 6, 8], [1, 1.5, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]].map(between);
  const chosen = choices.find((each) => each.length <= most) ?? choices.at(-1).filter((_, place) => place % 2 === 0);
  return chosen.length ? chosen : [Math.exp((low + high) / 2)];
}

function drawPlot() {
  const { tradeoff, cost, stages } = state.bundle;
  $("tradeoff").hidden = !tradeoff.length;
  if (!tradeoff.length) return;
  const by = document.querySelector("input[name=cost]:checked").value;
  const width = Math.max(300, $("plot").clientWidth);
  const [height, left, right, top, bottom] = [300, 46, 12, 18, 40];
  const points = tradeoff.filter((point) => point[by] > 0 && point.ndcg !== null);
  const xs = [...points.map((point) => point[by]), cost[by]].map(Math.log);
  const ys = points.map((point) => point.ndcg);
  const [low, high] = [Math.min(...xs), Math.max(...xs)];
  const pad = (Math.max(...ys) - Math.min(...ys)) * 0.12 || 0.01;
  const [least, most] = [Math.min(...ys) - pad, Math.max(...ys) + pad];
  const x = (value) => left + ((Math.log(value) - low) / (high - low || 1)) * (width - left - right - 40) + 20;
  const y = (value) => height - bottom - ((value - least) / (most - least)) * (height - top - bottom);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Quality against ${by === "hot_bytes" ? "bytes in memory" : "multiply-adds"} of ${points.length} measured funnels; served: ${stages}` });
  root.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  for (const value of roundTicks(least, most, 5)) {
    root.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      svg("text", { class: "quality", x: left - 8, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(4).replace(/^0/, "")));
  }
  for (const tick of roundPowers(low, high, width < 600 ? 4 : 9)) {
    root.append(svg("text", { class: "tick", x: x(tick), y: height - bottom + 18, "text-anchor": "middle" }, short.format(tick)));
  }
  root.append(svg("text", { x: width - right, y: height - 6, "text-anchor": "end" }, by === "hot_bytes" ? "bytes an item in memory (log)" : "multiply-adds of a search (log)"),
    svg("text", { x: left, y: 12 }, `ndcg@${K}`));
  const chosen = state.sizes[$("size").valueAsNumber];
  const [first, keep] = stages.split(",")[0].split(":").map(Number);
  const last = Number(stages.split(",").at(-1));
  let served = null;
  for (const point of points) {
    const dot = svg("circle", { class: `point${point.granularity === chosen ? " on" : ""}`, cx: x(point[by]), cy: y(point.ndcg), r: 5 });
    const name = point.granularity === point.ranking ? `${point.granularity}` : `${point.granularity}:${point.keep},${point.ranking}`;
    dot.append(svg("title", {}, `${name} ${point.codec}: ndcg ${point.ndcg.toFixed(4)}, ${whole.format(point.hot_bytes)} bytes in memory, ${short.format(point.multiply_adds)} multiply-adds`));
    root.append(dot);
    const apart = (each) => Math.abs(Math.log(each.hot_bytes / cost.hot_bytes));
    if (point.granularity === first && point.ranking === last && (point.keep === keep || !keep)
      && (served === null || apart(point) < apart(served))) served = point;
  }
  const at = x(cost[by]);
  root.append(svg("line", { class: "cost", x1: at, x2: at, y1: top, y2: height - bottom }));
  if (served) root.append(svg("circle", { class: "served", cx: x(served[by]), cy: y(served.ndcg), r: 9 }));
  const end = at > width * 0.6;
  root.append(svg("text", { class: "name", x: at + (end ? -8 : 8), y: top + 8, "text-anchor": end ? "end" : "start" }, `served: ${stages}`));
  $("plot").replaceChildren(root);
  $("plot-note").textContent = `Each point is a funnel that was measured on ${K}-item lists; those that begin at ${chosen} coordinates are full. The line is the cost of the funnel that is served`
    + (served ? "; the ring is the same funnel as it was measured." : ".");
}

// Start -----------------------------------------------------------------------------------------

let suggestions = 0;
async function suggest() {
  const run = ++suggestions;
  try {
    const { users } = await ask(`/v1/users?limit=12&query=${encodeURIComponent($("user").value)}`);
    if (run === suggestions) $("users").replaceChildren(...users.map((user) => make("option", { value: user })));
  } catch (error) { note(error.message, true); }
}

function listen() {
  $("size").addEventListener("input", show);
  window.addEventListener("resize", drawPlot);
  document.querySelectorAll("input[name=cost]").forEach((radio) => radio.addEventListener("change", drawPlot));
  $("user-form").addEventListener("submit", (event) => { event.preventDefault(); if ($("user").value.trim()) pick($("user").value.trim()); });
  $("user").addEventListener("input", suggest);
  $("any").addEventListener("click", async () => {
    let users = [];
    try { ({ users } = await ask("/v1/users?limit=100")); } catch (error) { note(error.message, true); }
    if (users.length) { $("user").value = users[Math.floor(Math.random() * users.length)]; pick($("user").value); }
  });
  $("clear").addEventListener("click", () => { Object.assign(state, { user: null, history: [], length: 0 }); $("user").value = ""; $("title").focus(); refresh(); });
  $("title").addEventListener("input", search);
  $("title").addEventListener("blur", close);
  $("title").addEventListener("keydown", (event) => {
    if (event.key === "Escape") { close(); return; }
    if ($("found").hidden || !found.length) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      select((active + (event.key === "ArrowDown" ? 1 : found.length - 1)) % found.length);
    } else if (event.key === "Enter" && active >= 0) { event.preventDefault(); add(found[active]); }
  });
}

function showFilters() {
  for (const [name, values] of Object.entries(state.bundle.categories)) {
    if (name === state.bundle.title || values.length < 2) continue;
    const select = make("select", { id: `filter-${name}`, onchange: () => {
      if (select.value) state.where[name] = [select.value]; else delete state.where[name];
      refresh();
    } }, make("option", { value: "" }, "all"), ...values.map((value) => make("option", {}, value)));
    $("filters").append(make("div", {}, make("label", { for: `filter-${name}` }, `Filter by ${name}`), select));
  }
}

async function start() {
  try {
    state.bundle = await ask("/v1/bundle");
  } catch (error) { $("about").textContent = error.message; return; }
  const bundle = state.bundle;
  state.sizes = bundle.granularities.filter((each) => each.allowed).map((each) => each.size);
  $("about").textContent = [bundle.model, bundle.version, `${bundle.items.toLocaleString("en")} items`,
    `${bundle.users.toLocaleString("en")} users`, `served by ${bundle.stages}`].filter(Boolean).join(" · ");
  Object.assign($("size"), { max: state.sizes.length - 1, value: state.sizes.length - 1, disabled: false });
  $("ticks").replaceChildren(...state.sizes.map((size) => make("span", {}, String(size))));
  if (!bundle.users) $("user-form").hidden = true;
  if (!bundle.histories) { $("title").disabled = true; $("title").placeholder = "this bundle reads no histories"; }
  showFilters();
  listen();
  if (bundle.users) await suggest();
  await refresh();
  document.body.dataset.ready = "yes";
}

start();
