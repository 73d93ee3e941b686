package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"enclave/sandbox"
	"enclave/sandbox/score"
	"enclave/sandbox/script"
	"enclave/sandbox/tools"
)

func (a *app) sandbox() *cobra.Command {
	c := a.group("sandbox", "Run scripts that an AI wrote, with nothing but their tools", a.sandboxRun(), a.sandboxServe(), a.sandboxCheck(), a.sandboxTools(), a.sandboxLevels(), a.sandboxDoctor())
	c.Long = `A script is the body of an async function. It computes, and it calls the tools that it is
given; there is no network, no file and no clock to wait for. docs/format/agentscript.md
describes the language.`
	return c
}

// checked is the answer of check.
type checked struct {
	OK       bool             `json:"ok"`
	File     string           `json:"file"`
	SHA256   string           `json:"sha256"`
	Level    script.Level     `json:"level"`
	Tools    []string         `json:"tools"` // that the script calls
	Findings []script.Finding `json:"findings"`
	Verdict  *score.Verdict   `json:"verdict,omitempty"` // absent where the script is refused
}

func (a *app) sandboxCheck() *cobra.Command {
	var level, file string
	c := &cobra.Command{Use: "check SCRIPT|-", Short: "Say whether a script may run, and how risky it looks; run nothing",
		Example: "  enclave sandbox check script.js --tools tools.json\n  echo 'return 1 + 1' | enclave sandbox check - --level STRICT --json",
		Args:    exactly("SCRIPT"), RunE: func(_ *cobra.Command, args []string) error {
			l, err := script.ParseLevel(level)
			if err != nil {
				return usage("--level: %v", err)
			}
			src, err := readAll(a.In, args[0], sandbox.MaxSource)
			if err != nil {
				return err
			}
			names, declared, err := a.declaredTools(file)
			if err != nil {
				return err
			}
			res := check(string(src), l, names, declared)
			if res.File = args[0]; res.File == "-" {
				res.File = "<stdin>"
			}
			if err := a.print(res, func(w io.Writer) { printChecked(w, res, string(src)) }); err != nil {
				return err
			}
			switch {
			case res.Verdict == nil:
				return &failure{exit: exitRefused, Code: "script_refused", Message: fmt.Sprintf("%s is refused at %s", res.File, l)}
			case !res.OK:
				return &failure{exit: exitRefused, Code: "script_blocked", Message: fmt.Sprintf("%s is blocked: its risk is %d of 100", res.File, res.Verdict.Score)}
			}
			return nil
		}}
	f := c.Flags()
	f.StringVar(&level, "level", "", "`LEVEL` of trust in the script: STRICT, SECURE, STANDARD or PERMISSIVE (default STANDARD)")
	f.StringVar(&file, "tools", "", "`FILE` that declares the tools; without it every tool is taken to exist")
	_ = c.RegisterFlagCompletionFunc("level", completeLevel)
	_ = c.MarkFlagFilename("tools", "json")
	return c
}

func completeLevel(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names := []string{}
	for _, l := range script.Levels() {
		names = append(names, string(l))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// declaredTools reads which tools a file declares. Servers and documents that it
// imports are not asked: with one of them, names are nil, since any tool may exist.
func (a *app) declaredTools(file string) (names []string, declared []score.Tool, err error) {
	if file == "" {
		return nil, nil, nil
	}
	raw, err := readAll(a.In, file, tools.MaxFile)
	if err != nil {
		return nil, nil, err
	}
	f, err := tools.Load(raw)
	if err != nil {
		return nil, nil, toolsError(file, err)
	}
	names = []string{}
	for _, t := range f.Tools {
		names = append(names, t.Name)
		has := func(at tools.Attribute) bool { return slices.Contains(t.Attributes, at) }
		declared = append(declared, score.Tool{Name: t.Name, Declared: t.Attributes != nil,
			Reads: has(tools.Reads), Writes: has(tools.Writes), Sends: has(tools.Sends), Secret: has(tools.Sealed)})
	}
	if len(f.MCP)+len(f.OpenAPI) > 0 {
		names = nil
	}
	return names, declared, nil
}

func check(src string, l script.Level, names []string, declared []score.Tool) checked {
	hash := sha256.Sum256([]byte(src))
	p, findings := script.Admit(src, script.Options{Level: l, Tools: names})
	res := checked{Level: l, SHA256: hex.EncodeToString(hash[:]), Findings: findings, Tools: []string{}}
	if res.Findings == nil {
		res.Findings = []script.Finding{}
	}
	if p == nil {
		return res
	}
	v := score.Score(p.Features, declared, score.Policy{})
	res.Verdict, res.OK = &v, v.Action != score.Block
	if p.Tools != nil {
		res.Tools = p.Tools
	}
	return res
}

func printChecked(w io.Writer, res checked, src string) {
	for _, f := range res.Findings {
		fmt.Fprintf(w, "%s:%d:%d: %s: %s [%s %s]\n", clean(res.File), f.Line, f.Column, f.Severity, clean(f.Message), f.Rule, f.Code)
		excerpt(w, src, f)
	}
	if res.Verdict == nil {
		return
	}
	if len(res.Tools) > 0 {
		fmt.Fprintf(w, "calls %s\n", clean(strings.Join(res.Tools, ", ")))
	}
	fmt.Fprintf(w, "admitted at %s; risk %d of 100: %s\n", res.Level, res.Verdict.Score, res.Verdict.Action)
	rows := [][]string{}
	for _, s := range res.Verdict.Signals {
		line := ""
		if s.Line > 0 {
			line = "line " + num(s.Line)
		}
		rows = append(rows, []string{"  +" + num(s.Points), s.Name, line, clean(s.Detail)})
	}
	table(w, rows...)
}

// excerptRunes is how much of a line is shown.
const excerptRunes = 100

// excerpt shows the line of a finding with a caret below its place.
func excerpt(w io.Writer, src string, f script.Finding) {
	line := []rune(clean(strings.ReplaceAll(lineOf(src, f.Line), "\t", " ")))
	from, at := 0, min(f.Column-1, len(line))
	if at > excerptRunes*3/4 {
		from = at - excerptRunes/2
	}
	shown := line[from:min(from+excerptRunes, len(line))]
	at -= from
	length := max(1, min(f.Length, len(shown)-at))
	number := num(f.Line)
	fmt.Fprintf(w, "  %s | %s\n", number, string(shown))
	fmt.Fprintf(w, "  %s | %s%s\n", strings.Repeat(" ", len(number)), strings.Repeat(" ", at), strings.Repeat("^", length))
}

// lineOf returns line n, from 1, as the sandbox counts lines.
func lineOf(src string, n int) string {
	for ; n > 1; n-- {
		i := strings.IndexAny(src, "\r\n")
		if i < 0 {
			return ""
		}
		if strings.HasPrefix(src[i:], "\r\n") {
			i++
		}
		src = src[i+1:]
	}
	if i := strings.IndexAny(src, "\r\n"); i >= 0 {
		src = src[:i]
	}
	if !utf8.ValidString(src) {
		src = strings.ToValidUTF8(src, "\uFFFD")
	}
	return src
}

func (a *app) sandboxLevels() *cobra.Command {
	return &cobra.Command{Use: "levels", Short: "Show what each level of trust allows",
		Args: exactly(), RunE: func(*cobra.Command, []string) error {
			type level struct {
				script.Rules
				Process bool `json:"process_per_run"`
			}
			var all []level
			for _, l := range script.Levels() {
				all = append(all, level{l.Rules(), sandbox.OneRunAProcess(l)})
			}
			return a.print(all, func(w io.Writer) {
				head := []string{""}
				for _, l := range all {
					head = append(head, string(l.Level))
				}
				rows := [][]string{head}
				add := func(name string, value func(level) string) {
					row := []string{name}
					for _, l := range all {
						row = append(row, value(l))
					}
					rows = append(rows, row)
				}
				add("deadline", func(l level) string { return l.Run.Timeout.Round(time.Second).String() })
				add("iterations", func(l level) string { return num(int(l.Run.Iterations)) })
				add("tool calls", func(l level) string { return num(l.Run.ToolCalls) })
				add("memory", func(l level) string { return size(l.Run.Memory) })
				add("console", func(l level) string { return size(int64(l.Run.ConsoleBytes)) })
				add("console lines", func(l level) string { return num(l.Run.ConsoleCalls) })
				add("a value that crosses", func(l level) string { return size(int64(l.Run.PayloadBytes)) })
				add("a process for each run", func(l level) string { return yes(l.Process) })
				add("text", func(l level) string { return size(int64(l.Text.Bytes)) })
				add("lines", func(l level) string { return num(l.Text.Lines) })
				add("bytes in a line", func(l level) string { return num(l.Text.LineBytes) })
				add("brackets open", func(l level) string { return num(l.Text.Nesting) })
				add("operators in a row", func(l level) string { return num(l.Text.Operators) })
				add("a string", func(l level) string { return size(int64(l.Text.StringBytes)) })
				add("all strings", func(l level) string { return size(int64(l.Text.StringTotal)) })
				add("regular expressions", func(l level) string { return num(l.Text.Regexps) })
				add("bytes in one", func(l level) string { return num(l.Text.RegexpBytes) })
				add("words and operators", func(l level) string { return num(l.Text.Tokens) })
				table(w, rows...)
				base := all[0].Globals
				fmt.Fprintf(w, "\nglobals of every level: %s\n", strings.Join(base, ", "))
				more := slices.DeleteFunc(slices.Clone(all[1].Globals), func(g string) bool { return slices.Contains(base, g) })
				fmt.Fprintf(w, "from %s on also: %s\n", all[1].Level, strings.Join(more, ", "))
			})
		}}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// size prints bytes in the largest unit that holds them whole.
func size(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d", n)
}
