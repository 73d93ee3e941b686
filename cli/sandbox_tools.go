package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"enclave/sandbox/script"
	"enclave/sandbox/tools"
)

// offered is the answer of tools.
type offered struct {
	Version string       `json:"version"`
	Tools   []tools.Info `json:"tools"`
	Prompt  string       `json:"prompt,omitempty"`
}

func (a *app) sandboxTools() *cobra.Command {
	f := hostFlags{quiet: true}
	var level string
	var prompt bool
	c := &cobra.Command{Use: "tools", Short: "Show what scripts may call, imported tools included",
		Long: `Reads a file of tools, asks the MCP servers and reads the documents that it names, and
shows what a script may call. With --prompt it prints what a model has to know to write
such scripts: the language and the tools.`,
		Example: "  enclave sandbox tools --tools tools.json\n  enclave sandbox tools --tools tools.json --prompt --level STRICT",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(c.Context())
			defer stop()
			l, err := script.ParseLevel(level)
			if err != nil {
				return usage("--level: %v", err)
			}
			if f.tools == "" {
				return usage("which tools?").hint("pass --tools FILE; docs/format/tools.md describes it")
			}
			if f.join {
				if _, err := a.joining(&f); err != nil {
					return err
				}
			}
			r, err := a.openTools(ctx, &f)
			if err != nil {
				return err
			}
			defer r.Close()
			res := offered{Version: r.Version(), Tools: r.List(a.localCaller())}
			if prompt {
				res.Prompt = tools.Prompt(l.Rules(), res.Tools)
			}
			return a.print(res, func(w io.Writer) {
				if prompt {
					for line := range strings.Lines(res.Prompt) {
						fmt.Fprintln(w, clean(strings.TrimSuffix(line, "\n")))
					}
					return
				}
				printTools(w, res.Tools)
			})
		}}
	f.toolFlags(c)
	fl := c.Flags()
	fl.StringVar(&level, "level", "", "`LEVEL` of trust in scripts: STRICT, SECURE, STANDARD or PERMISSIVE (default STANDARD)")
	fl.BoolVar(&prompt, "prompt", false, "print the language and the tools, for a model that writes scripts")
	_ = c.RegisterFlagCompletionFunc("level", completeLevel)
	return c
}

func printTools(w io.Writer, list []tools.Info) {
	rows := [][]string{{"TOOL", "DOES", "WHERE", "DESCRIPTION"}}
	for _, t := range list {
		does := []string{}
		for _, at := range t.Attributes {
			does = append(does, string(at))
		}
		if t.Attributes == nil {
			does = []string{"undeclared"}
		}
		where := "-"
		if t.Overlay {
			where = "overlay"
		}
		text, _, _ := strings.Cut(t.Description, "\n")
		if runes := []rune(text); len(runes) > 60 {
			text = string(runes[:59]) + "…"
		}
		rows = append(rows, []string{clean(t.Name), strings.Join(does, ","), where, clean(text)})
	}
	table(w, rows...)
}
