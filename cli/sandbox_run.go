package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"enclave/sandbox"
	"enclave/sandbox/pool"
	"enclave/sandbox/score"
	"enclave/sandbox/script"
	"enclave/sandbox/session"
	"enclave/sandbox/tools"
	"enclave/wire"
)

// runFlags are the flags of `sandbox run`.
type runFlags struct {
	host   hostFlags
	level  string
	gate   string
	limits sandbox.Limits
	memory int64 // MiB
	weak   bool
	tags   []string
}

func (a *app) sandboxRun() *cobra.Command {
	var f runFlags
	c := &cobra.Command{Use: "run SCRIPT|-", Short: "Run a script behind the walls and print what it returns",
		Long: `Runs a script in a worker process of its own and prints what it returns, as JSON. What it
writes to its console goes to stderr. With --join the run is a system of the overlay for
as long as it lives: its tools reach what policy allows its tags, and nothing else.`,
		Example: `  enclave sandbox run script.js --level STRICT --tools tools.json
  echo 'return (await callTool("users:list",{limit:3})).items.length' | enclave sandbox run - --tools tools.json
  enclave sandbox run script.js --tools tools.json --join --state lab --key-file runs.key --tag ai`,
		Args: exactly("SCRIPT"), RunE: func(c *cobra.Command, args []string) error {
			return a.runScript(c.Context(), &f, args[0])
		}}
	f.host.flags(c)
	f.host.quiet = true
	fl := c.Flags()
	fl.StringVar(&f.level, "level", "", "`LEVEL` of trust in the script: STRICT, SECURE, STANDARD or PERMISSIVE (default STANDARD)")
	fl.StringVar(&f.gate, "gate", "block", "`WHAT` the scoring gate does from 70 points on: block, warn or off")
	fl.DurationVar(&f.limits.Timeout, "timeout", 0, "deadline for everything (default the level's)")
	fl.Int64Var(&f.limits.Iterations, "iterations", 0, "passes of loops and calls of functions in all (default the level's)")
	fl.IntVar(&f.limits.ToolCalls, "tool-calls", 0, "calls of tools in all (default the level's)")
	fl.Int64Var(&f.memory, "memory", 0, "MiB that the script may hold (default 64)")
	fl.BoolVar(&f.weak, "allow-weak-walls", false, "run STRICT and SECURE even where this machine cannot give their walls")
	fl.StringArrayVar(&f.tags, "tag", nil, "`TAG` of the run's system, one of the key's; may be given several times (default all of the key's)")
	_ = c.RegisterFlagCompletionFunc("level", completeLevel)
	return completing(c, map[string]completion{"gate": words("block", "warn", "off")})
}

// console takes what a run writes. Lines go out as they come, or are kept for --json.
type console struct {
	w io.Writer // nil keeps

	mu    sync.Mutex // guards lines and the order of writes
	lines []sandbox.Line
}

func (c *console) ToolCall(uint64, string, json.RawMessage)             {}
func (c *console) ToolProgress(uint64, string, tools.Phase, int64)      {}
func (c *console) ToolResult(uint64, string, tools.Code, time.Duration) {}

func (c *console) Output(l sandbox.Line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.w == nil {
		c.lines = append(c.lines, l)
		return
	}
	// A text of many lines, such as a stack or a table, stays what it is: a script can
	// write as many lines one by one.
	fmt.Fprintln(c.w, strings.Map(func(r rune) rune {
		if wire.Steers(r) && r != '\n' && r != '\t' {
			return '\uFFFD'
		}
		return r
	}, l.Text))
}

// ran is what `sandbox run --json` prints.
type ran struct {
	Run string `json:"run"`
	sandbox.Result
	Output []sandbox.Line `json:"output"`
}

func (a *app) runScript(ctx context.Context, f *runFlags, file string) (err error) {
	level, err := script.ParseLevel(f.level)
	if err != nil {
		return usage("--level: %v", err)
	}
	gate, ok := map[string]sandbox.Gate{"block": sandbox.GateBlock, "warn": sandbox.GateWarn, "off": sandbox.GateOff}[f.gate]
	if !ok {
		return usage("--gate %.40q: want block, warn or off", f.gate)
	}
	if len(f.tags) > 0 && !f.host.join {
		return usage("--tag: the run has no system to carry it").hint("add --join")
	}
	src, err := readAll(a.In, file, sandbox.MaxSource)
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx) // not before: Ctrl-C ends who waits for a script that nobody types
	defer stop()
	f.limits.MemoryBytes = f.memory << 20
	runner, err := pool.New(pool.Config{Size: 1, Share: 1, Warm: 1, AllowWeak: f.weak, Log: f.host.logger(a).With("part", "workers")})
	if err != nil {
		return err
	}
	defer runner.Close()
	host, end, err := a.sandboxHost(ctx, &f.host, runner)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	name := file
	if file == "-" {
		name = "<stdin>"
	}
	out := &console{w: a.Err}
	if a.json {
		out.w = nil
	}
	req := session.Request{ID: session.NewRunID(), Caller: a.localCaller(), Join: f.host.join, Tags: f.tags,
		Spec: sandbox.Spec{Source: string(src), Filename: name, Level: level, Gate: gate, Limits: f.limits}}
	res := ran{Run: req.ID, Result: host.Run(ctx, req, out)}
	if res.Output = out.lines; res.Output == nil {
		res.Output = []sandbox.Line{}
	}
	if err := a.print(res, func(w io.Writer) { printRan(w, a.Err, res, string(src)) }); err != nil {
		return err
	}
	return ranError(name, res.Result)
}

// printRan prints the value on out and all else on errs, so that what a script returned
// can be piped on.
func printRan(out, errs io.Writer, res ran, src string) {
	for _, f := range res.Findings {
		fmt.Fprintf(errs, "line %d, column %d: %s: %s\n", f.Line, f.Column, f.Code, clean(f.Message))
		excerpt(errs, src, f)
	}
	if v := res.Verdict; v != nil && v.Action != score.Allow {
		fmt.Fprintf(errs, "risk %d of 100: %s\n", v.Score, v.Action)
		for _, s := range v.Signals {
			fmt.Fprintf(errs, "  +%d %s %s\n", s.Points, clean(s.Name), clean(s.Detail))
		}
	}
	if e := res.Error; e != nil && e.Line > 0 && e.Code != sandbox.CodeValidation {
		excerpt(errs, src, script.Finding{Line: e.Line, Column: max(e.Column, 1), Length: 1})
	}
	var b bytes.Buffer
	if res.OK && len(res.Value) > 0 && json.Indent(&b, res.Value, "", "  ") == nil {
		fmt.Fprintln(out, plainJSON(strings.TrimSuffix(b.String(), "\n")))
	}
}

// plainJSON spells what clean takes out with escapes: the same document, which also does
// nothing to a terminal. JSON itself lets C1 controls and direction controls stand in text.
func plainJSON(s string) string {
	var b []byte
	for _, r := range s {
		if r != '\n' && wire.Steers(r) { // json.Indent's own line ends; no control stands in text
			b = appendEscape(b, r)
		} else {
			b = utf8.AppendRune(b, r)
		}
	}
	return string(b)
}

// ranError is a failed run as the command's own error.
func ranError(name string, res sandbox.Result) error {
	e := res.Error
	if res.OK || e == nil {
		return nil
	}
	exit := exitRefused
	switch e.Code {
	case sandbox.CodeBadSpec:
		exit = exitUsage
	case sandbox.CodePolicy:
		exit = exitForbidden
	case sandbox.CodeBusy:
		exit = exitTryAgain
	}
	where := name
	if e.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d", name, e.Line, e.Column)
	}
	f := &failure{exit: exit, Code: strings.ToLower(string(e.Code)), Message: where + ": " + clean(e.Message)}
	if e.Name != "" {
		f.Message = where + ": " + clean(e.Name) + ": " + clean(e.Message)
	}
	switch e.Code {
	case sandbox.CodeWalls:
		f.Hint = "see which walls this machine gives with \"enclave sandbox doctor\"; --allow-weak-walls runs it all the same"
	case sandbox.CodeValidation:
		f.Hint = "see all findings with \"enclave sandbox check\""
	case sandbox.CodeIterations:
		f.Hint = "pass --iterations, or a --level with more"
	case sandbox.CodeTimeout:
		f.Hint = "pass --timeout, or a --level with more"
	case sandbox.CodeMemory:
		f.Hint = "pass --memory"
	case sandbox.CodePolicy:
		f.Hint = "the log line above says why; \"enclave key list\" shows which tags the key gives"
	case sandbox.CodeToolFailed:
		f.Hint = "--verbose shows what the service said; \"tell_errors\" in tools.json lets the script see it"
	case sandbox.CodeBlocked:
		f.Hint = "the signals say why; --gate warn runs it all the same"
	}
	return f
}
