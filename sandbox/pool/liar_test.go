package pool

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/script"
)

// hear runs the parent's side against a worker that says all of b at once.
func hear(t *testing.T, b []byte, broker sandbox.Broker) (sandbox.Result, error) {
	t.Helper()
	theirs, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	go func() { defer close(drained); _, _ = io.Copy(io.Discard, theirs) }()
	r := &running{
		pool: new(Pool), w: &process{in: in, reader: bufio.NewReader(bytes.NewReader(b))}, broker: broker,
		spec: sandbox.Spec{Limits: sandbox.LimitsOf(sandbox.Strict), Tools: tools}, caller: t.Context(), deadline: time.Now().Add(time.Minute),
	}
	res, err := r.talk(t.Context())
	r.pool.work.Wait()
	_ = in.Close()
	<-drained
	_ = theirs.Close()
	return res, err
}

// raw is a frame as a worker that is no longer ours writes it.
func raw(k kind, body string) []byte {
	n := len(body) + 1
	return append([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), byte(k)}, body...)
}

// TestALiarIsCaught: frames of any kind, in any order, too large, and after the end.
func TestALiarIsCaught(t *testing.T) {
	end, call := raw(kindEnd, `{"ok":true,"value":1,"stats":{}}`), raw(kindCall, `{"id":1,"name":"echo","args":{}}`)
	for name, said := range map[string][][]byte{
		"ready again":          {raw(kindReady, `{"version":1,"walls":[]}`), end},
		"what only we say":     {raw(kindAnswer, `{"id":1}`), end},
		"a run of its own":     {raw(kindRun, `{}`), end},
		"no kind":              {raw('?', ``), end},
		"too large":            {{0xff, 0xff, 0xff, 0xff, byte(kindEnd)}},
		"a call twice":         {call, call, end},
		"calls back in time":   {raw(kindCall, `{"id":9,"name":"echo","args":{}}`), call, end},
		"another's tool":       {raw(kindCall, `{"id":1,"name":"exec","args":{}}`), end},
		"an opinion, unasked":  {raw(kindCall, `{"id":0,"name":"`+sandbox.OpinionCall+`","args":{}}`), end},
		"a line of no stream":  {raw(kindLine, `{"stream":"root","text":"x"}`), end},
		"two ends":             {end, end},
		"a line after the end": {end, raw(kindLine, `{"stream":"stdout","text":"x"}`)},
		"half a word after it": {end, {0}},
	} {
		t.Run(name, func(t *testing.T) {
			if res, err := hear(t, bytes.Join(said, nil), &echo{}); !errors.Is(err, errBroken) {
				t.Errorf("%+v, %v", res, err)
			}
		})
	}
	if res, err := hear(t, append(call, end...), &echo{}); err != nil || !res.OK {
		t.Errorf("an honest worker: %+v, %v", res, err)
	}
}

// TestAnEndIsShort: what a worker says of the script is bounded before it is kept, also in
// memory, is clean, and fits the record of the run.
func TestAnEndIsShort(t *testing.T) {
	long := `\u001b]0;` + strings.Repeat("x", 100_000)
	res, err := hear(t, raw(kindEnd, `{"ok":true,"value":1,"stats":{},"findings":[{"rule":"`+long+`","code":"","severity":"`+long+`","message":"`+long+`","line":-1,"column":0,"length":0}],`+
		`"verdict":{"score":1000,"action":"`+long+`","signals":[`+strings.Repeat(`{"name":"`+long[:9000]+`","points":1,"detail":"x"},`, 300)+`null]}}`), &echo{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(res)
	if err != nil || len(b) > 32<<10 || bytes.Contains(b, []byte(`\u001b`)) || res.Verdict.Score != 100 || res.Findings[0].Line != 0 || res.Findings[0].Severity != script.Refused {
		t.Errorf("%d bytes: %.300s, %v", len(b), b, err)
	}
	nulls := raw(kindEnd, `{"ok":true,"stats":{},"findings":[`+strings.Repeat("null,", 3<<20)+`null]}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	res, err = hear(t, nulls, &echo{})
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; err != nil || len(res.Findings) != maxFindings || took > uint64(8*len(nulls)) {
		t.Errorf("%d bytes took %d, %d findings, %v", len(nulls), took, len(res.Findings), err)
	}
}
