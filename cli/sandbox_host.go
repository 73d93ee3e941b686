package cli

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/node"
	"enclave/sandbox"
	"enclave/sandbox/opinion"
	"enclave/sandbox/pool"
	"enclave/sandbox/session"
	"enclave/sandbox/tools"
)

// hostFlags are the flags of what surrounds a run: its tools, its records, its place on
// the overlay.
type hostFlags struct {
	tools, audit                  string
	join                          bool
	control, fingerprint, keyFile string
	life                          time.Duration
	opinionURL, opinionModel      string
	opinionKey                    string
	opinionOverlay                bool
	quiet                         bool                                           // one run: stderr is for its console
	visit                         func(ctx context.Context) (tools.Visit, error) // nil: nothing joins
}

// logger leaves stderr to the script of a single run, but for what went wrong.
func (f *hostFlags) logger(a *app) *slog.Logger {
	if f.quiet && !a.verbose {
		return a.loggerFrom(slog.LevelError)
	}
	return a.logger()
}

func (f *hostFlags) flags(c *cobra.Command) *cobra.Command {
	f.toolFlags(c)
	fl := c.Flags()
	fl.StringVar(&f.audit, "audit", "", "`FILE` that keeps a record of each run and call, chained by hashes")
	fl.DurationVar(&f.life, "run-life", 0, "longest life of a run's identity (default 10m)")
	fl.StringVar(&f.opinionURL, "opinion-url", "", "`URL` of a chat API (up to and without /chat/completions) that the scoring gate asks about risky scripts, by their features")
	fl.StringVar(&f.opinionModel, "opinion-model", "", "`NAME` of the model to ask")
	fl.StringVar(&f.opinionKey, "opinion-key-file", "", "`FILE` with the bearer key of the API of --opinion-url")
	fl.BoolVar(&f.opinionOverlay, "opinion-overlay", false, "reach the API of --opinion-url on the overlay, as each run itself (with --join)")
	return c
}

// toolFlags are the flags of what a run may call, and of whom it calls it as.
func (f *hostFlags) toolFlags(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.tools, "tools", "", "`FILE` that declares the tools; without it there are none")
	fl.BoolVar(&f.join, "join", false, "make each run a system of the overlay; policy decides what it reaches")
	fl.StringVar(&f.control, "control", "", "`URL` of the control plane, https://host:port (default $ENCLAVE_CONTROL, else the context file's)")
	fl.StringVar(&f.fingerprint, "ca-fingerprint", "", "fingerprint of the organisation's root, `SHA256` (default $ENCLAVE_CA_FINGERPRINT, else the context file's)")
	fl.StringVar(&f.keyFile, "key-file", "", "`FILE` with the secret of an ephemeral enrolment key, whose tags bound those of runs (or $ENCLAVE_ENROLMENT_KEY)")
	_ = c.MarkFlagFilename("tools", "json")
}

// sandboxHost makes the host of runs. The caller calls end when all of them have ended.
func (a *app) sandboxHost(ctx context.Context, f *hostFlags, runner sandbox.Runner) (h *session.Host, end func() error, err error) {
	var closers []func() error
	all := func() error {
		var errs []error
		for _, c := range closers {
			errs = append(errs, c())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, all())
		}
	}()
	h = &session.Host{Runner: runner, Logger: f.logger(a)}
	if f.join {
		if h.Joiner, err = a.joining(f); err != nil {
			return nil, nil, err
		}
	}
	if h.Tools, err = a.openTools(ctx, f); err != nil {
		return nil, nil, err
	}
	closers = append(closers, h.Close)
	if f.audit != "" {
		file, err := tools.OpenAuditFile(ctx, f.audit)
		if err != nil {
			return nil, nil, err
		}
		if file.Torn > 0 {
			h.Logger.Warn("the audit file ended in a record that was not written whole: it is in another file now", "bytes", file.Torn, "file", f.audit+".torn")
		}
		h.Audit = file
		closers = append(closers, file.Close)
	}
	if f.opinionOverlay && f.opinionURL == "" {
		return nil, nil, usage("--opinion-overlay: which API?").hint("add --opinion-url and --opinion-model")
	}
	if f.opinionURL != "" {
		if h.Second, err = f.second(); err != nil {
			return nil, nil, err
		}
	}
	return h, all, nil
}

// joining finds the control plane, for runs and for asking servers of tools there.
func (a *app) joining(f *hostFlags) (session.Joiner, error) {
	runs, err := a.joiner(f)
	if err != nil {
		return nil, err
	}
	f.visit = func(ctx context.Context) (tools.Visit, error) {
		n, err := runs.Join(ctx, session.NewRunID(), nil)
		if err != nil {
			return nil, err // not the nil of another type
		}
		return n, nil
	}
	return runs, nil
}

// openTools reads the file of tools.
func (a *app) openTools(ctx context.Context, f *hostFlags) (*tools.Registry, error) {
	cfg := tools.Config{Visit: f.visit, Getenv: a.Getenv, Logger: f.logger(a).With("part", "tools")}
	if f.tools == "" {
		return tools.Open(ctx, &tools.File{Version: 1}, cfg)
	}
	r, err := tools.OpenFile(ctx, f.tools, cfg)
	if err != nil {
		return nil, toolsError(f.tools, err)
	}
	return r, nil
}

// second is the model that the gate asks.
func (f *hostFlags) second() (*opinion.Model, error) {
	u, err := url.Parse(f.opinionURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return nil, usage("--opinion-url %.80q: want http(s)://host/path", f.opinionURL)
	}
	if f.opinionModel == "" {
		return nil, usage("--opinion-url: which model?").hint("add --opinion-model NAME")
	}
	if f.opinionOverlay && !f.join {
		return nil, usage("--opinion-overlay: the runs are not on the overlay").hint("add --join")
	}
	m := &opinion.Model{URL: f.opinionURL, Name: f.opinionModel, Overlay: f.opinionOverlay}
	if f.opinionKey != "" {
		if m.Key, err = readSecret(f.opinionKey); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func toolsError(file string, err error) error {
	var bad tools.Problems
	if errors.As(err, &bad) {
		f := usage("%s has mistakes", titled(file)).hint("docs/format/tools.md describes the file")
		f.Problems = bad
		return f
	}
	return usage("%v", err)
}

// joiner finds the control plane: flags, environment, the context file.
func (a *app) joiner(f *hostFlags) (*node.Runs, error) {
	dir, err := a.stateDir()
	if err != nil {
		return nil, err
	}
	beside, err := readContext(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	r := &node.Runs{Control: first(f.control, a.Getenv("ENCLAVE_CONTROL"), beside.URL),
		Fingerprint: first(f.fingerprint, a.Getenv("ENCLAVE_CA_FINGERPRINT"), beside.Fingerprint),
		Key:         a.enrolmentKey(f.keyFile), Life: f.life, Version: build().Version, Logger: f.logger(a).With("part", "overlay")}
	switch {
	case r.Control == "" || r.Fingerprint == "":
		return nil, usage("--join: no control plane").hint("pass --control and --ca-fingerprint, or --state with the directory of \"enclave up\"")
	case r.Key == nil:
		return nil, usage("--join: no enrolment key").hint("make one with \"enclave key create --name runs --ephemeral --tag ai\" and pass --key-file")
	case f.life < 0 || f.life > time.Hour:
		return nil, usage("--run-life %s: want up to 1h", f.life)
	}
	if u, err := url.Parse(r.Control); err == nil {
		ip := net.ParseIP(u.Hostname())
		r.Loopback = u.Hostname() == "localhost" || (ip != nil && ip.IsLoopback())
	}
	return r, nil
}

// localCaller is whom a run from this command line acts for.
func (a *app) localCaller() tools.Caller {
	return tools.Caller{User: first(a.Getenv("USER"), a.Getenv("LOGNAME"), "local"), Tenant: "local"}
}

// sandboxRunner starts the workers that scripts run in.
func (a *app) sandboxRunner() (*pool.Pool, error) {
	return pool.New(pool.Config{Log: a.logger().With("part", "workers")})
}
