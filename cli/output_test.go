package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"enclave/agent"
	"enclave/agent/uplink"
	"enclave/cli/client"
	"enclave/cli/node"
	"enclave/sandbox/tools"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// TestLowPort: who may not listen on a port is not told to choose another directory.
func TestLowPort(t *testing.T) {
	err := &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", syscall.EACCES)}
	if f := explain(fmt.Errorf("forward: %w", err)); f.exit != exitUsage || f.Code != "permission" || !strings.Contains(f.Hint, "port from 1024") {
		t.Errorf("%+v", f)
	}
	err.Net = "unix" // has no port
	if f := explain(err); strings.Contains(f.Hint, "port") {
		t.Errorf("%+v", f)
	}
}

// TestExitCodes is the contract with scripts.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		exit int
		code string
	}{
		{usage("x"), 2, "usage"},
		{errors.New("x"), 1, "error"},
		{store.ErrLocked, 6, "locked"},
		{tools.ErrAuditHeld, 6, "locked"},
		{store.ErrDamaged, 7, "damaged"},
		{store.ErrNewer, 7, "newer_state"},
		{store.ErrOpenToOthers, 2, "open_to_others"},
		{store.ErrNotOurs, 2, "not_ours"},
		{agent.ErrDamaged, 7, "damaged"},
		{node.ErrDamaged, 7, "damaged"},
		{agent.ErrNeedKey, 2, "need_key"},
		{agent.ErrRevoked, 4, "revoked"},
		{agent.ErrReplaced, 6, "replaced"},
		{agent.ErrUnknownName, 5, "unknown_name"},
		{agent.ErrNoAgent, 6, "no_agent"},
		{svid.ErrFingerprint, 2, "wrong_fingerprint"},
		{svid.ErrNotYetValid, 6, "clock"},
		{svid.ErrExpired, 6, "clock"},
		{uplink.ErrUnreachable, 6, "unreachable"},
		{uplink.ErrBadEndpoint, 2, "usage"},
		{client.ErrUnreachable, 6, "unreachable"},
		{client.ErrBadAddress, 2, "usage"},
		{wire.ErrBadName, 2, "usage"},
		{syscall.EADDRINUSE, 6, "port_taken"},
		{syscall.EADDRNOTAVAIL, 2, "not_here"},
		{context.DeadlineExceeded, 6, "timeout"},
		{fs.ErrPermission, 2, "permission"},
	} {
		if f := explain(fmt.Errorf("in a context: %w", c.err)); f.exit != c.exit || f.Code != c.code || f.Message == "" {
			t.Errorf("%v: exit %d code %q, want %d %q", c.err, f.exit, f.Code, c.exit, c.code)
		}
	}
	for _, c := range []struct {
		status int
		code   string
		exit   int
	}{
		{400, api.CodeBadRequest, 2},
		{400, api.CodeClockSkew, 6},
		{401, api.CodeUnauthorised, 3},
		{403, api.CodeForbidden, 4},
		{403, api.CodeKeyUnknown, 1},
		{403, api.CodeKeyExpired, 1},
		{403, api.CodeKeyUsedUp, 1},
		{404, api.CodeNotFound, 5},
		{409, api.CodeAmbiguous, 2},
		{409, api.CodeConflict, 1},
		{412, api.CodeStale, 1},
		{413, api.CodeTooLarge, 2},
		{422, api.CodeInvalid, 2},
		{429, api.CodeTryAgain, 6},
		{500, api.CodeInternal, 6},
		{503, api.CodeTryAgain, 6},
	} {
		f := explain(fmt.Errorf("in a context: %w", &api.Problem{Status: c.status, Code: c.code, Title: "t"}))
		if f.exit != c.exit || f.Code != c.code {
			t.Errorf("%d %s: exit %d, want %d", c.status, c.code, f.exit, c.exit)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                 "plain",
		"ünïcödé 日本":            "ünïcödé 日本",
		"\x1b[31mred":           "\uFFFD[31mred",
		"a\tb\nc\r":             "a\uFFFDb\uFFFDc\uFFFD",
		"\u009b2J":              "\uFFFD2J",
		"\u202egnp.exe\u2066":   "\uFFFDgnp.exe\uFFFD",
		"\x00\x7f":              "\uFFFD\uFFFD",
		"line\u2028two":         "line\uFFFDtwo",
		string([]byte{0xff, 7}): "\uFFFD\uFFFD",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestEveryCommand: each has a sentence of help, and its completions name flags that
// exist.
func TestEveryCommand(t *testing.T) {
	a := &app{Streams: Streams{Getenv: func(string) string { return "" }}}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: help %q", c.CommandPath(), c.Short)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c.Run == nil && c.RunE == nil {
			t.Errorf("%s does nothing", c.CommandPath())
		}
		s := newShell(t)
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		if out := s.ok(args...); !strings.Contains(out, "Usage:") || strings.Contains(out, "stringArray") {
			t.Errorf("%s --help: %s", c.CommandPath(), out)
		}
	}
	walk(a.root())
}

// TestGroupsUnderJSON: help is no JSON document.
func TestGroupsUnderJSON(t *testing.T) {
	s := newShell(t)
	for _, group := range []string{"system", "policy", "key", "tag", "trust", "relays"} {
		if out := s.ok(group); !strings.Contains(out, "Usage:") {
			t.Errorf("%s prints %q", group, out)
		}
		out, errs, exit := s.run(group, "--json")
		if exit != exitUsage || out != "" || !strings.Contains(errs, `"code":"usage"`) {
			t.Errorf("%s --json: exit %d, %q %q", group, exit, out, errs)
		}
	}
}

// TestNoNameIsAFlag: whoever names something does not write on another's command line.
func TestNoNameIsAFlag(t *testing.T) {
	got := typed([]string{"web\tab12c, connected", "--url=https://evil", "-v", "two\n:0", "plain", "x\tof\nlines"})
	if want := []string{"web\tab12c, connected", "plain", "x\tof\uFFFDlines"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestGatewayBeyondItsRoutes: who writes a policy for what its gateway may not carry hears so
// then, and not only from "enclave status".
func TestGatewayBeyondItsRoutes(t *testing.T) {
	s := newSite(t, nil)
	s.mustEnrol("gate")
	s.mustEnrol("laptop")
	s.ok("tag", "add", "laptop", "laptops")
	s.ok("system", "route", "add", "gate", "192.168.1.0/24")
	lacks := `warning: gateway gate of policy "Office" may not carry 10.1.0.0/16: "enclave system route add gate SUBNET" lets it` + "\n"
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"create", "Office", "--from", "laptops", "--gateway", "gate=10.1.0.0/16", "--allow", "tcp/443", "--dry-run"}, lacks},
		{[]string{"create", "Office", "--from", "laptops", "--gateway", "gate=10.1.0.0/16", "--allow", "tcp/443"}, lacks},
		{[]string{"update", "Office", "--gateway", "gate"}, ""},
		{[]string{"update", "Office", "--gateway", "gate=192.168.1.128/25,10.1.0.0/16"}, lacks},
		{[]string{"update", "Office", "--gateway", "gate=192.168.0.0/16"}, "192.168.0.0/24 and more (8 ranges)"},
	} {
		out, errs, exit := s.run(append([]string{"policy"}, c.args...)...)
		if slices.Contains(c.args, "--dry-run") { // where it is what was asked for
			errs, c.want = out, strings.TrimPrefix(c.want, "warning: ")
		}
		if exit != exitOK || !strings.Contains(errs, c.want) || c.want == "" && errs != "" {
			t.Errorf("%v: exit %d, %q, want %q", c.args, exit, errs, c.want)
		}
	}
	if out := s.ok("policy", "update", "Office", "--gateway", "gate=10.1.0.0/16", "--json"); !strings.Contains(out, `"warnings":["gateway gate`) {
		t.Errorf("in JSON: %s", out)
	}
}

// TestCompletion types half a line and presses Tab.
func TestCompletion(t *testing.T) {
	s := newSite(t, nil)
	id := string(s.mustEnrol("web"))
	s.ok("tag", "add", "web", "servers")
	if _, errs, exit := s.run("policy", "create", "Web", "--from", "laptops", "--to", "servers", "--allow", "tcp/80"); exit != exitOK || errs != "warning: no system carries the tag laptops of policy \"Web\"\n" {
		t.Errorf("exit %d, %q", exit, errs)
	}
	for line, want := range map[string]string{
		"system approve ":             "web\n" + id,
		"system list --state-is ":     "pending",
		"system list --tag ":          "servers",
		"tag add ":                    id,
		"tag add web ":                "laptops",
		"tag remove web ":             "servers",
		"policy disable ":             "Web",
		"policy create x --from ":     "laptops",
		"policy create x --allow ":    "icmp",
		"policy create x --gateway ":  "web",
		"policy delete Web --force ":  ":4", // no test is kept, and no file is meant
		"sandbox run f --tag ":        "servers",
		"audit list --action ":        "system.tag",
		"audit list --object ":        "system:" + id,
		"audit tail --outcome ":       "denied",
		"up --backup-dir ":            ":16",
		"up --listen ":                ":4",
		"graph --format ":             "mermaid",
		"key create --approve ":       "automatic",
		"key create --name n --tag ":  "servers",
		"key disable ":                "first key",
		"trust met ":                  "web",
		"poli":                        "policy",
		"ping --state /nonexistent/ ": "",
	} {
		words := strings.Split(line, " ")
		out, _, exit := s.run(append([]string{"__complete"}, words...)...)
		plain := strings.ReplaceAll(strings.ReplaceAll(out, "\t"+id+", disconnected", ""), "\t", " ")
		if exit != exitOK || !strings.Contains(plain, want) {
			t.Errorf("%q completes to %q, want %q", line, out, want)
		}
	}
	if out, _, _ := s.run("__complete", "tag", "remove", "web", ""); strings.Contains(out, "laptops") {
		t.Errorf("tag remove offers a tag that the system has not: %s", out)
	}
	s.ok("policy", "create", "--from", "servers", "--to", "servers", "--allow", "tcp/80", "--", "--url=https://evil")
	if out, _, _ := s.run("__complete", "policy", "disable", ""); strings.Contains(out, "evil") {
		t.Errorf("a name is offered as a flag: %s", out)
	}
	s.env["ENCLAVE_URL"] = "https://127.0.0.1:1"
	if out, _, exit := s.run("__complete", "system", "show", ""); exit != exitOK || strings.Contains(out, "web") {
		t.Errorf("without a server: exit %d, %q", exit, out)
	}
}

// TestAFirstKeyThatNobodySaw is not lost: the start that could not show it ends, and the
// next one shows it.
func TestAFirstKeyThatNobodySaw(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	dir := filepath.Join(t.TempDir(), "state")
	var errs strings.Builder
	up := []string{"up", "--state", dir, "--listen", "127.0.0.1:0", "--stun", "127.0.0.1:0"}
	if exit := Main(ctx, up, Streams{In: strings.NewReader(""), Out: broken{syscall.ENOSPC}, Err: &errs, Getenv: func(string) string { return "" }}); exit != exitTryAgain || ctx.Err() != nil {
		t.Fatalf("exit %d, %v: %s", exit, ctx.Err(), errs.String())
	}
	st, err := store.Open(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	keys, err := st.Keys(ctx)
	shown, err2 := st.ShownSecret(ctx, time.Now())
	if err := errors.Join(err, err2); err != nil || len(keys) != 1 || shown == "" {
		t.Errorf("keys: %+v, one to be shown: %v, %v", keys, shown != "", err)
	}
}
