package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/script/corpus"
)

// corpusHost answers as the corpus says its tools do.
type corpusHost struct {
	answers chan Answer
	Lines   []sandbox.Line
}

func (h *corpusHost) Output(l sandbox.Line) { h.Lines = append(h.Lines, l) }

func (h *corpusHost) Call(c sandbox.Call) {
	users := []string{`{"id":1,"name":"Ann","age":30}`, `{"id":2,"name":"Bob","age":25}`, `{"id":3,"name":"Cyd","age":35}`}
	var args struct {
		Limit *int `json:"limit"`
		ID    int  `json:"id"`
	}
	_ = json.Unmarshal(c.Args, &args)
	answer := func(v string) { h.answers <- Answer{ID: c.ID, Value: []byte(v)} }
	switch c.Name {
	case "echo":
		answer(string(c.Args))
	case "users:list":
		if args.Limit != nil && *args.Limit >= 0 && *args.Limit < len(users) {
			users = users[:*args.Limit]
		}
		answer(`{"items":[` + strings.Join(users, ",") + `],"total":3}`)
	case "users:get":
		if args.ID < 1 || args.ID > len(users) {
			answer("null")
			return
		}
		answer(users[args.ID-1])
	case "fail":
		h.answers <- Answer{ID: c.ID, Error: sandbox.Errorf(sandbox.CodeToolFailed, "the tool failed")}
	case "slow":
		time.AfterFunc(10*time.Millisecond, func() { answer(`{"ok":true}`) })
	case "poison":
		answer(`{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}},"then":1,"a":[1]}`)
	}
}

// ended is what a process of one script prints.
type ended struct {
	Result sandbox.Result
	Lines  []sandbox.Line
	Took   time.Duration
	Next   string // what an ordinary script gives after it in the same process
}

const (
	corpusVariable = "ENCLAVE_TEST_CORPUS"
	corpusDeadline = 400 * time.Millisecond
	// corpusCPU is what a process may compute, in seconds: the kernel kills one that goes on
	// after its deadline. How long that takes on the clock is the machine's business; what
	// neither computes nor ends meets corpusWall.
	corpusCPU  = 5
	corpusWall = 2 * corpus.Patience
)

func corpusSpec(t testing.TB, path string) sandbox.Spec {
	all, err := corpus.Load()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(s corpus.Script) bool { return s.Path() == path })
	if i < 0 {
		t.Fatalf("no script %s", path)
	}
	spec := sandbox.Spec{Source: all[i].Source, Level: all[i].Level, Gate: sandbox.GateOff, Limits: sandbox.Limits{Timeout: all[i].Deadline(corpusDeadline)}}
	for _, name := range corpus.Tools() {
		spec.Tools = append(spec.Tools, sandbox.Tool{Name: name})
	}
	spec, bad := spec.Resolved()
	if bad != nil {
		t.Fatal(bad)
	}
	// What is charged for comes to its end with a part of the budget as well, and sooner:
	// sandbox/pool gives all of it.
	if slices.Contains(all[i].Codes, "ITERATION_LIMIT") && !slices.Contains(all[i].Codes, "MEMORY_LIMIT") {
		spec.Limits.Iterations /= 4
	}
	return spec
}

// TestCorpusProcess is no test: it is the process in which one script of the corpus
// runs, so that what kills or hangs it is an outcome like others.
func TestCorpusProcess(t *testing.T) {
	path := os.Getenv(corpusVariable)
	if path == "" {
		t.Skip("started by TestCorpus")
	}
	limitProcess(t)
	e, err := New()
	if err != nil {
		t.Fatal(err)
	}
	spec := corpusSpec(t, path)
	h := &corpusHost{answers: make(chan Answer, 2000)}
	began := time.Now()
	out := ended{Result: e.Run(context.Background(), spec, h, h.answers), Took: time.Since(began)}
	out.Lines = h.Lines
	next := &corpusHost{answers: make(chan Answer, 10)}
	spec.Source = "return [({}).polluted, [].polluted, (() => 1).polluted, [1].map(x => x + 1), Math.max(1, 2), JSON.stringify({ a: 1 }), (await callTool('echo', { b: 2 })).b]"
	out.Next = describe(e.Run(context.Background(), spec, next, next.answers))
	raw, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString("\nENDED " + string(raw) + "\n")
}

// leaks are traces of the host that no answer may hold.
var leaks = []string{"/root", "/tmp", "/work", "/usr", "/home", ".go:", "goja", "github.com", "goroutine", "runtime error", "reflect.", "func(", "0xc0", "__ag_key", "__ag_reg", "__ag_spread", "__ag_big", "__ag_trace", "__ag_throw", "ENCLAVE", "invalid memory", "nil pointer", "interface conversion", "main.", "<eval>", "{Object 0x"}

func TestCorpus(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process for each script")
	}
	all, err := corpus.Load()
	if err != nil {
		t.Fatal(err)
	}
	var left atomic.Int64
	t.Run("all", func(t *testing.T) {
		for _, s := range all {
			t.Run(s.Path(), func(t *testing.T) {
				t.Parallel()
				if end, ok := t.Deadline(); ok && time.Until(end) < corpusWall {
					left.Add(1)
					t.Skip("not run: no time is left")
				}
				runOne(t, s)
			})
		}
	})
	if n := left.Load(); n > 0 {
		t.Errorf("%d of %d scripts were not run: the machine was too busy for the time of a test; give it more with -timeout", n, len(all))
	}
}

func runOne(t *testing.T, s corpus.Script) {
	ctx, cancel := context.WithTimeout(t.Context(), corpusWall)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestCorpusProcess$", "-test.v=false")
	cmd.Env = append(os.Environ(), corpusVariable+"="+s.Path())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	_, line, ok := strings.Cut(out.String(), "\nENDED ")
	if killed := ctx.Err() != nil || !ok; killed && slices.Contains(s.Codes, "KILLED") {
		return // by the deadline or by the memory: here is no wall but this
	}
	if ctx.Err() != nil {
		t.Errorf("HUNG: not ended after %v, with %v of processor time", corpusWall, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		return
	}
	if !ok {
		t.Errorf("DIED: %v with %v of processor time: %.300s", err, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), errs.String())
		return
	}
	line, _, _ = strings.Cut(line, "\n")
	var e ended
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		t.Fatalf("%v: %.300s", err, line)
	}
	said := describe(e.Result)
	t.Logf("%v: %.100s", e.Took.Round(time.Millisecond), said)
	if e.Next != `[null,null,null,[2],2,"{\"a\":1}",2]` {
		t.Errorf("NEXT RUN: %s", e.Next)
	}
	answer, _ := json.Marshal([]any{e.Result.Value, e.Result.Error, e.Lines})
	for _, leak := range leaks {
		if strings.Contains(string(answer), leak) && !strings.Contains(s.Source, leak) {
			t.Errorf("LEAK %q: %.300s", leak, answer)
		}
	}
	code := ""
	if e.Result.Error != nil {
		code = string(e.Result.Error.Code)
	}
	switch s.Kind {
	case corpus.Refused:
		if code != string(sandbox.CodeValidation) {
			t.Errorf("ADMITTED: ended %.300s", said)
		}
	case corpus.Contained:
		wrong := code == string(sandbox.CodeValidation) || code == string(sandbox.CodeInternal)
		if len(s.Codes) > 0 {
			wrong = !slices.Contains(s.Codes, code)
		}
		if wrong {
			t.Errorf("ENDED %.300s, want %v", said, s.Codes)
		}
	case corpus.Value:
		var got, want any
		v := e.Result.Value
		if v == nil {
			v = []byte("null")
		}
		if !e.Result.OK || json.Unmarshal(v, &got) != nil || json.Unmarshal([]byte(s.Value), &want) != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("VALUE %.300s, want %s", said, s.Value)
		}
	}
}
