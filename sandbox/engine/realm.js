// Runs once in a fresh realm, before any script: takes away what no script may have,
// and freezes the rest. names are the globals that stay; native is what Go supplies.
(function (names, native) {
  "use strict";
  const all = globalThis;
  const { getOwnPropertyDescriptor, getPrototypeOf, defineProperty, freeze } = Object;
  const ownKeys = Reflect.ownKeys;
  const TypeErrorOf = TypeError, RangeErrorOf = RangeError, isArray = Array.isArray;
  const all_ = Promise.all.bind(Promise);

  const parallel = async (items, fn) => {
    if (!isArray(items)) throw new TypeErrorOf("parallel takes an array and a function");
    if (typeof fn !== "function") throw new TypeErrorOf("parallel takes an array and a function");
    const n = items.length;
    if (n > 100) throw new RangeErrorOf("parallel takes at most 100 items, not " + n);
    const out = [];
    for (let i = 0; i < n; i++) out[i] = undefined;
    let next = 0;
    const lane = async () => {
      while (next < n) {
        const i = next++;
        out[i] = await fn(items[i], i);
      }
    };
    const lanes = [];
    for (let i = 0; i < n && i < native.lanes(); i++) lanes[i] = lane();
    await all_(lanes);
    return out;
  };

  // What rewrites objects, what makes code of text, and what reaches behind a value.
  for (const k of ["defineProperty", "defineProperties", "setPrototypeOf", "getPrototypeOf", "getOwnPropertyDescriptor",
    "getOwnPropertyDescriptors", "create", "getOwnPropertySymbols", "preventExtensions"]) delete Object[k];
  for (const k of ["__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"]) delete Object.prototype[k];
  for (const k of ["caller", "arguments"]) delete Function.prototype[k];
  for (const k of ["anchor", "big", "blink", "bold", "fixed", "fontcolor", "fontsize", "italics", "link", "small", "strike", "sub", "sup"]) delete String.prototype[k];

  const scope = { __proto__: null };
  for (const name of names) {
    let v = all[name];
    if (name === "parallel") v = parallel;
    else if (name in native) v = native[name];
    defineProperty(scope, name, { value: v, writable: false, enumerable: false, configurable: false });
  }

  // A frozen prototype would forbid a script to give its own object a property of the
  // same name. Where that is usual, the property becomes a pair that allows it.
  const yielding = (holder, key) => {
    const d = getOwnPropertyDescriptor(holder, key);
    if (!d || !("value" in d)) return;
    const value = d.value;
    defineProperty(holder, key, {
      get() { return value; },
      set(v) {
        if (this === holder) throw new TypeErrorOf("cannot change a built-in");
        defineProperty(this, key, { value: v, writable: true, enumerable: true, configurable: true });
      },
      enumerable: false, configurable: false,
    });
  };
  for (const E of [Error, TypeError, RangeError, SyntaxError, ReferenceError, EvalError, URIError]) {
    for (const key of ["name", "message", "toString"]) yielding(E.prototype, key);
  }
  for (const key of ["toString", "toLocaleString", "valueOf", "hasOwnProperty"]) yielding(Object.prototype, key);

  const done = new Set();
  const open = [scope, getPrototypeOf(function* () {}), getPrototypeOf(async () => {}), getPrototypeOf([][Symbol.iterator]()),
    getPrototypeOf(""[Symbol.iterator]()), getPrototypeOf(new Map().entries()), getPrototypeOf(new Set().values()),
    getPrototypeOf("".matchAll(/x/g)), Promise.prototype, RegExp.prototype, Symbol.prototype, BigInt.prototype,
    ReferenceError.prototype, EvalError.prototype, URIError.prototype, AggregateError.prototype];
  while (open.length > 0) {
    const o = open.pop();
    if ((typeof o !== "object" && typeof o !== "function") || o === null || done.has(o)) continue;
    done.add(o);
    if (o !== scope) delete o.constructor;
    for (const key of ownKeys(o)) {
      const d = getOwnPropertyDescriptor(o, key);
      if ("value" in d) open.push(d.value);
      else open.push(d.get, d.set);
    }
    open.push(getPrototypeOf(o));
    freeze(o);
  }
  return scope;
})
