package pool

import (
	"context"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/script/corpus"
)

// players plays the tools of the corpus.
type players struct{ echo }

func (p *players) CallTool(ctx context.Context, c sandbox.Call) (json.RawMessage, *sandbox.Error) {
	users := []map[string]any{{"id": 1, "name": "Ann", "age": 30}, {"id": 2, "name": "Bob", "age": 25}, {"id": 3, "name": "Cyd", "age": 35}}
	var args struct {
		Limit *int `json:"limit"`
		ID    any  `json:"id"`
	}
	_ = json.Unmarshal(c.Args, &args)
	answer := func(v any) (json.RawMessage, *sandbox.Error) {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, sandbox.Errorf(sandbox.CodeToolFailed, "no JSON")
		}
		return b, nil
	}
	switch c.Name {
	case "users:list":
		n := len(users)
		if args.Limit != nil {
			n = max(0, min(n, *args.Limit))
		}
		return answer(map[string]any{"items": users[:n], "total": len(users)})
	case "users:get":
		for _, u := range users {
			if f, ok := args.ID.(float64); ok && int(f) == u["id"] {
				return answer(u)
			}
		}
		return json.RawMessage("null"), nil
	case "slow":
		return json.RawMessage(`{"ok":true}`), nil
	case "poison":
		return json.RawMessage(`{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}},"then":1,"a":[1]}`), nil
	}
	return p.echo.CallTool(ctx, c)
}

// probe is what a clean worker answers.
const (
	probe     = "const o = {}; return [1 + 1, Object.keys(o).length, o.polluted === undefined, [3, 1, 2].sort().join('')]"
	probeWant = `[2,0,true,"123"]`
)

// ofTheHost are words that no answer may hold.
var ofTheHost = []string{"/tmp/", "/root", "/home/", "goja", "enclave/", ".go:", "goroutine", "runtime error", "reflect", "0xc0", "main.", "func1", "<eval>", "{Object 0x"}

func TestTheCorpus(t *testing.T) {
	if underRace {
		t.Skip("bounds on memory mean nothing under the race detector")
	}
	all, err := corpus.Load()
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, Config{Warm: 3})
	names := corpus.Tools()
	var offered []sandbox.Tool
	for _, n := range names {
		offered = append(offered, sandbox.Tool{Name: n})
	}
	// A level's own deadline is long; what a hostile script does in half a second it does
	// in five.
	const deadline = 600 * time.Millisecond
	var ends = map[sandbox.Code]int{}
	var worst time.Duration
	short := 0
	for i, s := range all {
		if end, ok := t.Deadline(); ok && time.Until(end) < 3*corpus.Patience {
			say := t.Errorf
			if testing.Short() {
				say = t.Logf
			}
			say("only %d of %d scripts were looked at: the machine was too busy for the time of a test; give it more with -timeout", i, len(all))
			break
		}
		if testing.Short() && s.Kind == corpus.Contained && len(s.Codes) == 1 && s.Codes[0] == string(sandbox.CodeTimeout) {
			short++
			continue
		}
		b := &players{}
		timeout := s.Deadline(deadline)
		res, took := willing(t, p, sandbox.Spec{Source: s.Source, Level: s.Level, Tools: offered, Tenant: "corpus", Gate: sandbox.GateOff,
			Limits: sandbox.Limits{Timeout: timeout}}, b)
		worst = max(worst, took)
		// A worker that goes on computing after its deadline is what this looks for. How long a
		// run takes on the clock is the machine's business too: that bound is the last one.
		most := deadline + time.Second
		if timeout > deadline {
			most = 5 * time.Second // it must end by itself, far below its deadline
		}
		if cpu := res.Stats.CPU; cpu > most || took > timeout+corpus.Patience {
			t.Errorf("%s took %v, and %v of processor time", s.Path(), took, cpu)
		}
		if !res.OK {
			ends[res.Error.Code]++
		}
		whole, _ := json.Marshal(res)
		for _, bad := range ofTheHost {
			if i := strings.Index(string(whole)+strings.Join(b.lines, "\n"), bad); i >= 0 && !strings.Contains(s.Source, bad) {
				t.Errorf("%s shows %q: %.300s", s.Path(), bad, string(whole))
			}
		}
		if res.Stats.Memory > (64+64)<<20 {
			t.Errorf("%s held %d MiB", s.Path(), res.Stats.Memory>>20)
		}
		switch s.Kind {
		case corpus.Refused:
			if res.OK || res.Error.Code != sandbox.CodeValidation {
				t.Errorf("%s: got %.200s, want it refused", s.Path(), describeResult(res))
			}
		case corpus.Value:
			var got, want any
			if !res.OK || json.Unmarshal(res.Value, &got) != nil && len(res.Value) > 0 || json.Unmarshal([]byte(s.Value), &want) != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %.200s, want %s", s.Path(), describeResult(res), s.Value)
			}
		case corpus.Contained:
			if len(s.Codes) > 0 && (res.OK || !slices.Contains(s.Codes, string(res.Error.Code))) {
				t.Errorf("%s: got %.200s, want %v", s.Path(), describeResult(res), s.Codes)
			}
			if !res.OK && slices.Contains([]sandbox.Code{sandbox.CodeWorker, sandbox.CodeInternal}, res.Error.Code) {
				t.Errorf("%s: got %.200s", s.Path(), describeResult(res))
			}
			next, _ := willing(t, p, sandbox.Spec{Source: probe, Level: s.Level, Tenant: "corpus", Limits: sandbox.Limits{Timeout: corpus.Patience}}, &echo{})
			if string(next.Value) != probeWant {
				t.Errorf("after %s: %s", s.Path(), describeResult(next))
			}
		}
	}
	t.Logf("%d scripts, of which -short left out %d; the longest took %v; ends: %v", len(all), short, worst.Round(time.Millisecond), ends)
}

// willing makes a run, again where the pool had no worker for it in time, and where its time
// was over before it had computed much: that says something of the machine, and nothing of the
// script.
func willing(t *testing.T, p *Pool, spec sandbox.Spec, b sandbox.Broker) (res sandbox.Result, took time.Duration) {
	late := 0
	for range 20 {
		began := time.Now()
		res = p.Run(t.Context(), spec, b)
		took = time.Since(began)
		if res.OK {
			break
		}
		switch {
		case res.Error.Code == sandbox.CodeBusy || strings.HasPrefix(res.Error.Message, "no worker starts"):
			continue
		case res.Error.Code == sandbox.CodeTimeout && spec.Limits.Timeout == corpus.Patience && res.Stats.CPU < corpus.Patience/6 && late < 3:
			late++
			continue
		}
		break
	}
	return res, took
}

// TestNothingIsLeft counts what a closed pool leaves behind.
func TestNothingIsLeft(t *testing.T) {
	if underRace {
		t.Skip("bounds on memory mean nothing under the race detector")
	}
	first, err := New(Config{Warm: 1}) // the runtime keeps descriptors of its own from now on
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	before := descriptors()
	p, err := New(Config{Warm: 3})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		p.Run(t.Context(), sandbox.Spec{Source: "return 1", Level: sandbox.Strict}, &echo{})
		p.Run(t.Context(), sandbox.Spec{Source: "return 1", Tenant: "a"}, &echo{})
	}
	p.Close()
	p.Close()
	if after := descriptors(); after > before {
		t.Errorf("%d descriptors more than before", after-before)
	}
	if n := zombies(t); n > 0 {
		t.Errorf("%d zombies", n)
	}
}

func descriptors() int {
	l, _ := os.ReadDir("/proc/self/fd")
	return len(l)
}

// zombies counts children of this process that ended and nobody waited for.
func zombies(t *testing.T) (n int) {
	t.Helper()
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		b, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		for _, pid := range strings.Fields(string(b)) {
			stat, _ := os.ReadFile("/proc/" + pid + "/stat")
			if strings.Contains(string(stat), ") Z ") {
				n++
			}
		}
	}
	return n
}
