package pool

import (
	"encoding/json"
	"reflect"
	"testing"

	"enclave/sandbox"
	"enclave/sandbox/jail"
	"enclave/sandbox/score"
)

func TestBodiesAreAsEncodingWrites(t *testing.T) {
	same := func(got, want any) {
		t.Helper()
		a, err := json.Marshal(got)
		b, err2 := json.Marshal(want)
		if err != nil || err2 != nil || string(a) != string(b) {
			t.Errorf("%s, %v; want %s, %v", a, err, b, err2)
		}
	}
	r := ready{Version: frameVersion, Walls: []string{}}
	for _, w := range jail.All() {
		r.Walls = append(r.Walls, string(w))
	}
	same(readyBody(jail.All()), r)
	same(readyBody(nil), ready{Version: frameVersion, Walls: []string{}})

	full := sandbox.Result{OK: true, Value: json.RawMessage(`{"a":"<b>"}`), Verdict: &sandbox.Verdict{Score: 7, Action: score.Warn, Signals: []score.Signal{}}}
	stats := reflect.ValueOf(&full.Stats).Elem()
	for i := range stats.NumField() { // all of them, those of tomorrow too
		switch f := stats.Field(i); f.Kind() {
		case reflect.Bool:
			f.SetBool(true)
		default:
			f.SetInt(int64(i) - 3)
		}
	}
	other := full
	other.Verdict, other.Value, other.OK = nil, nil, false
	bad := full
	bad.Error = sandbox.Errorf(sandbox.CodeScript, "x")
	found := full
	found.Findings = []sandbox.Finding{{Message: "x"}}
	signal := full
	signal.Verdict = &sandbox.Verdict{Signals: []score.Signal{{}}}
	none := full
	none.Verdict = &sandbox.Verdict{}
	for _, r := range []sandbox.Result{full, other, bad, found, signal, none} {
		same(endBody(r), r)
	}
	for _, value := range []string{`1,"stats":{}`, `}`, `1 1`, "\"\n\"", `nul`} { // some are JSON with what is around them
		r := full
		r.Value = json.RawMessage(value)
		if b, err := appendFrame(nil, kindEnd, endBody(r)); err == nil {
			t.Errorf("%s becomes %s", value, b)
		}
	}
	if _, plain := endBody(full).(json.RawMessage); !plain {
		t.Error("a result without anything to say about is not put together")
	}
}
