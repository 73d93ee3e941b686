// Package cli is the command tree of the executable: one file a noun, flags and
// printing, no decisions.
//
// The contract with scripts: --json prints one JSON document (or JSON lines for a
// stream) on stdout and nothing else; errors go to stderr, as one JSON object with a
// stable code under --json; the exit code says what kind of error it was (exit.go).
// Nothing ever prompts. Secrets come from files or the environment, never from an
// argument, which every process on the machine could read.
package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	gvisor "gvisor.dev/gvisor/pkg/log"
)

// Streams are where a command reads and writes.
type Streams struct {
	In          io.Reader
	Out, Err    io.Writer
	Terminal    bool // Out is a terminal
	ErrTerminal bool // Err is one
	TerminalIn  bool // In is one
	Getenv      func(string) string
}

// app is what all commands share.
type app struct {
	Streams
	json    bool
	state   string
	url     string
	verbose bool

	raw Streams // as given: for what draws on the terminal itself, and for bytes that count
}

// Main runs the command line and returns its exit code.
func Main(ctx context.Context, args []string, s Streams) int {
	// gVisor warns on standard error about packets that ordinary networks produce.
	gvisor.SetTarget(&gvisor.Writer{Next: io.Discard})
	a := &app{Streams: s, raw: s}
	document := func() bool { return a.json }
	out, errs := newGuard(s.Out, document), newGuard(s.Err, document)
	defer errs.flush()
	a.Out, a.Err = out, errs
	root := a.root()
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	c, err := root.ExecuteContextC(ctx)
	out.flush()
	if bad := out.lost(); err == nil && bad != nil {
		err = fmt.Errorf("done, but its output is lost: %w", bad)
	}
	if err == nil {
		return exitOK
	}
	a.json = a.json || asksJSON(args)
	return a.fail(c, err)
}

// asksJSON finds --json where the flags before it did not parse.
func asksJSON(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "--json", "--json=true":
			return true
		case "--":
			return false
		}
	}
	return false
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "enclave",
		Short: "A zero-trust enclave in one executable",
		Long: `enclave runs an encrypted overlay network in which two systems know each other
only while a policy says so, without root.

  enclave demo      the whole mesh in one process, on a simulated internet
  enclave up        control plane and relay on this machine
  enclave agent     one system of the overlay, reached through proxies and ports
  enclave sandbox   run scripts that an AI wrote, with nothing but their tools

The verbs find the API by the context file that "enclave up" and "enclave login" leave
in the state directory, or by ENCLAVE_URL, ENCLAVE_CA_FINGERPRINT and ENCLAVE_TOKEN_FILE
(or ENCLAVE_TOKEN).`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       build().Version,
		Args:          subcommand,
		RunE:          a.helpOf,
	}
	root.SetHelpCommand(helpCommand())
	root.SetHelpCommandGroupID("look")
	root.SetCompletionCommandGroupID("look")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%v", err).hint("see \"" + c.CommandPath() + " --help\"")
	})
	f := root.PersistentFlags()
	f.BoolVar(&a.json, "json", false, "print JSON on stdout and nothing else")
	f.StringVar(&a.state, "state", "", "directory of the state, `DIR` (default $ENCLAVE_STATE, else $XDG_STATE_HOME/enclave)")
	f.StringVar(&a.url, "url", "", "address of the API, `URL`, https://host:port (default $ENCLAVE_URL, else the context file)")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log more, on stderr")
	_ = root.MarkPersistentFlagDirname("state")
	root.AddGroup(&cobra.Group{ID: "run", Title: "Run:"}, &cobra.Group{ID: "manage", Title: "Manage:"}, &cobra.Group{ID: "look", Title: "Look:"})
	for group, commands := range map[string][]*cobra.Command{
		"run":    {a.demo(), a.up(), a.control(), a.relay(), a.agent(), a.sandbox()},
		"manage": {a.system(), a.tag(), a.key(), a.policy(), a.trust(), a.dns(), a.relays(), a.token(), a.seal(), a.clock(), a.backup(), a.login(), a.tui()},
		"look":   {a.status(), a.explain(), a.resolve(), a.forecast(), a.graph(), a.flows(), a.ping(), a.netcheck(), a.waitFor(), a.audit(), a.activity(), a.bench(), a.doctor(), a.exitCodes(), a.version()},
	} {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	root.SetUsageTemplate(strings.NewReplacer(".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", helpWidth),
		" for more information about a command.", " for more.").Replace(root.UsageTemplate()))
	giveExamples(root, "")
	fitHelp(root)
	a.completeFlags(root)
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		c.Args, c.RunE = subcommand, a.helpOf
	}
	return root
}

// exactly is cobra.ExactArgs with a sentence that names what is missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return filled(c, names, args)
		}
		return usage("%s takes %s", c.CommandPath(), argList(names)).hint("see \"" + c.CommandPath() + " --help\"")
	}
}

// atLeast takes the named arguments and any number more of the last.
func atLeast(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) >= len(names) {
			return filled(c, names, args)
		}
		return usage("%s takes %s…", c.CommandPath(), argList(names)).hint("see \"" + c.CommandPath() + " --help\"")
	}
}

// filled refuses an argument without a character in it: a script's variable was empty.
func filled(c *cobra.Command, names, args []string) error {
	for i, arg := range args {
		if strings.TrimSpace(arg) == "" {
			return usage("%s: %s is empty", c.CommandPath(), names[min(i, len(names)-1)]).hint("see \"" + c.CommandPath() + " --help\"")
		}
	}
	return nil
}

func argList(names []string) string {
	if len(names) == 0 {
		return "no arguments"
	}
	s := ""
	for i, n := range names {
		if i > 0 {
			s += " "
		}
		s += n
	}
	return s
}

// group is a command that only holds others.
func (a *app) group(use, short string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: subcommand, RunE: a.helpOf, DisableFlagsInUseLine: true}
	c.AddCommand(sub...)
	return c
}

// subcommand refuses what is no command of c, and says what was probably meant.
func subcommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	c.SuggestionsMinimumDistance = 2
	f := usage("%s has no command %.60q", c.CommandPath(), args[0])
	if like := c.SuggestionsFor(args[0]); len(like) > 0 {
		return f.hint("did you mean \"" + c.CommandPath() + " " + strings.Join(like, "\" or \""+c.CommandPath()+" ") + "\"?")
	}
	return f.hint("see \"" + c.CommandPath() + " --help\"")
}

// helpOf is what a command that only holds others does. A script that asked for JSON
// has left the verb out by mistake.
func (a *app) helpOf(c *cobra.Command, _ []string) error {
	if a.json {
		return usage("%s needs a command", c.CommandPath()).hint("see \"" + c.CommandPath() + " --help\"")
	}
	return c.Help()
}

// helpCommand is cobra's, but a topic that does not exist is an error.
func helpCommand() *cobra.Command {
	return &cobra.Command{Use: "help [COMMAND]", Short: "Help about any command",
		RunE: func(c *cobra.Command, args []string) error {
			found, rest, err := c.Root().Find(args)
			if err != nil {
				return usage("%v", err)
			}
			if err := subcommand(found, rest); err != nil {
				return err
			}
			return found.Help()
		}}
}

// logger logs on stderr, in JSON under --json.
func (a *app) logger() *slog.Logger {
	if a.verbose {
		return a.loggerFrom(slog.LevelDebug)
	}
	return a.loggerFrom(slog.LevelInfo)
}

func (a *app) loggerFrom(level slog.Level) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if a.json {
		return slog.New(slog.NewJSONHandler(a.Err, opts))
	}
	return slog.New(slog.NewTextHandler(a.Err, opts))
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.Out, format, args...) }

// Standard returns the streams of the process.
func Standard() Streams {
	return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv,
		Terminal: isatty.IsTerminal(os.Stdout.Fd()), TerminalIn: isatty.IsTerminal(os.Stdin.Fd()), ErrTerminal: isatty.IsTerminal(os.Stderr.Fd())}
}
