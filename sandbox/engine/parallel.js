// parallel runs fn on items, some at a time. Without fn it waits for them: Promise.all.
((TypeError, RangeError, isArray, lanes, all) => async (items, ...rest) => {
  const fn = rest.length > 0 ? rest[0] : x => x;
  if (!isArray(items) && rest.length === 0) throw new TypeError("Promise.all takes an array here: [...x] makes one of anything else that can be iterated");
  if (!isArray(items)) throw new TypeError("parallel takes an array and a function");
  if (typeof fn !== "function") throw new TypeError("parallel takes an array and a function");
  const n = items.length;
  if (n > 100) throw new RangeError("parallel takes at most 100 items, not " + n);
  const out = [];
  for (let i = 0; i < n; i++) out[i] = undefined;
  let next = 0;
  const lane = async () => {
    while (next < n) {
      const i = next++;
      out[i] = await fn(items[i], i);
    }
  };
  const running = [];
  // What is awaited only is under way already: each is looked at now, so that the first to fail ends it.
  const most = rest.length > 0 ? lanes() : n;
  for (let i = 0; i < n && i < most; i++) running[i] = lane();
  await all(running);
  return out;
})
