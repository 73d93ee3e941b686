package engine

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzJSON holds the codec to encoding/json: what one takes the other takes, with the
// same meaning, and what is written reads back.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`1`, `-0`, `1e999`, `"\ud800"`, `"\ud83d\ude00\n"`, `{"a":[1,2.5,null,true],"__proto__":{}}`, `[[[]]]`, ` {"a" : 1 } `, `{"a":1,}`, "\"\x01\"", `{"toString":1,"constructor":2}`} {
		f.Add(s)
	}
	f.Add(`{"b":1,"2":2,"1":3,"":{"é":[{}],"0a":0}}`)
	e, err := New()
	if err != nil {
		f.Fatal(err)
	}
	r, err := e.newRealm()
	if err != nil {
		f.Fatal(err)
	}
	b := bounds{1 << 20, 50, 10_000}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 10_000 {
			return
		}
		v, err := decode(r.m, r.rt, s, b)
		if err != nil {
			return
		}
		var want any
		if json.Unmarshal([]byte(s), &want) != nil {
			// Go refuses numbers that are too large; the language makes them infinite.
			return
		}
		out, err := r.encode(v, bounds{1 << 24, 60, 20_000})
		if err != nil {
			t.Fatalf("%q was read and cannot be written: %v", s, err)
		}
		var got any
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%q became %q: %v", s, out, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q became %q", s, out)
		}
	})
}
