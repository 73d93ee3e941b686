package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"enclave/agent"
	"enclave/sandbox"
	"enclave/sandbox/pool"
	"enclave/sandbox/session"
	"enclave/sandbox/tools"
	"enclave/wire"
	"enclave/wire/api"
)

// scriptTools is what the script may call: the users service, and two things that its
// policy does not open.
const scriptTools = `{"version": 1, "tools": [
 {"name": "users:list", "attributes": ["reads"], "arguments": {"type": "object", "properties": {"limit": {"type": "integer", "maximum": 100}}},
  "serve": {"overlay": {"url": "http://db.enclave:8080/users{?limit}"}}},
 {"name": "db:query", "attributes": ["reads"], "serve": {"overlay": {"tcp": "db.enclave:5432", "until": "line"}}},
 {"name": "pod:page", "attributes": ["reads"], "serve": {"overlay": {"url": "http://pod-1.enclave/"}}}]}`

// scriptsMay is the policy of scripts.
const scriptsMay = "Scripts read users"

// theScript is what an AI might have written: it does its work, and tries its luck.
const theScript = `const users = await callTool("users:list", {limit: 3});
const tried = [];
try {
  await callTool("db:query", {data: "GET colour"});
} catch (e) { tried.push(e.code); }
try {
  await callTool("pod:page", {page: 1});
} catch (e) { tried.push(e.code); }
return {names: users.items.map(u => u.name), tried};`

// serveUsers is the users service.
func serveUsers(ctx context.Context, a *agent.Agent, port uint16) error {
	l, err := a.Listen(ctx, port)
	if err != nil {
		return err
	}
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"items": [{"name": "ana", "password": "correct horse"}, {"name": "ben"}, {"name": "cleo"}]}`)
		})}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// scripts: a run is a system for as long as it lives, and reaches what policy says.
func (d *demo) scripts(ctx context.Context) {
	d.section(`A script of an AI: "Scripts read users": ai → databases, tcp/8080`)
	var res sandbox.Result
	var run string
	var seen api.System
	d.check("the run joins with an identity of its own", func() (string, error) {
		if err := d.allowScripts(ctx); err != nil {
			return "", err
		}
		began := time.Now()
		var err error
		if run, res, seen, err = d.runScript(ctx, theScript); err != nil {
			return "", err
		}
		if !res.OK {
			return "", res.Error
		}
		if seen.Kind != "run" || !slices.Equal(seen.Tags, []wire.Tag{"ai"}) {
			return "", fmt.Errorf("while it ran it was %+v", seen)
		}
		return fmt.Sprintf("%s, kind %s, tags %s; done in %s", run, seen.Kind, seen.Tags, ms(time.Since(began))), nil
	})
	var out struct{ Names, Tried []string }
	d.check("it reads the users service", func() (string, error) {
		if err := json.Unmarshal(res.Value, &out); err != nil || strings.Join(out.Names, " ") != "ana ben cleo" {
			return "", fmt.Errorf("it returned %s", res.Value)
		}
		return strings.Join(out.Names, ", "), nil
	})
	d.check("and nothing else: neither another port there nor another system", func() (string, error) {
		if !slices.Equal(out.Tried, []string{"TOOL_CALL_FAILED", "TOOL_CALL_FAILED"}) {
			return "", fmt.Errorf("it got %v", out.Tried)
		}
		return "db:5432 denied, pod-1 unknown", nil
	})
	d.check("when it has ended, nobody knows it any more", func() (string, error) {
		list, err := d.API.Systems(ctx, nil)
		if err != nil {
			return "", err
		}
		if slices.ContainsFunc(list, func(s api.System) bool { return s.Kind == "run" }) {
			return "", errors.New("it is still among the systems")
		}
		err = eventually(ctx, 3*time.Second, "the database still knows it", func() bool {
			return !slices.ContainsFunc(d.db.Status().Peers, func(p api.AgentPeer) bool { return p.Name == run })
		})
		return "no system, no peer", err
	})
	d.check("what it did is in the audit trail, under its own name", func() (string, error) { return d.trail(ctx, run) })
}

func (d *demo) allowScripts(ctx context.Context) error {
	p, err := d.API.CreatePolicy(ctx, wire.Policy{Name: scriptsMay, Kind: wire.Direct, Enabled: true,
		SenderTags: []wire.Tag{"ai"}, ReceiverTags: []wire.Tag{"databases"}, ACLs: []wire.ACL{allow(wire.TCP, 8080)}})
	if err != nil {
		return err
	}
	return d.applied(ctx, p.Version)
}

// spy looks at the run's system at its first call.
type spy struct {
	look func()
	once bool
}

func (s *spy) ToolCall(uint64, string, json.RawMessage) {
	if !s.once {
		s.once = true
		s.look()
	}
}
func (s *spy) ToolProgress(uint64, string, tools.Phase, int64)      {}
func (s *spy) ToolResult(uint64, string, tools.Code, time.Duration) {}
func (s *spy) Output(sandbox.Line)                                  {}

func (d *demo) runScript(ctx context.Context, source string) (run string, res sandbox.Result, seen api.System, err error) {
	key, err := d.API.CreateKey(ctx, api.KeyCreate{Name: "scripts", Kind: "ephemeral", Tags: []wire.Tag{"ai"}})
	if err != nil {
		return "", res, seen, err
	}
	f, err := tools.Load([]byte(scriptTools))
	if err != nil {
		return "", res, seen, err
	}
	reg, err := tools.Open(ctx, f, tools.Config{})
	if err != nil {
		return "", res, seen, err
	}
	defer reg.Close()
	workers, err := pool.New(pool.Config{Log: d.cfg.Logger})
	if err != nil {
		return "", res, seen, err
	}
	defer workers.Close()
	host := session.Host{Runner: workers, Tools: reg, Joiner: d.Runs(d.sandbox, key.Secret), Logger: d.cfg.Logger}
	run = session.NewRunID()
	look := &spy{look: func() {
		if s, err := d.API.System(ctx, run); err == nil {
			seen = s
		}
	}}
	res = host.Run(ctx, session.Request{ID: run, Join: true, Tags: []string{"ai"}, Caller: tools.Caller{User: "ana", Tenant: "demo"},
		Spec: sandbox.Spec{Source: source, Level: sandbox.Standard}}, look)
	return run, res, seen, nil
}

// trail finds the records of a run.
func (d *demo) trail(ctx context.Context, run string) (string, error) {
	var actions []string
	for after := int64(0); ; {
		list, err := d.API.Activity(ctx, after)
		if err != nil || len(list) == 0 {
			if want := "run.start tool.result tool.result tool.result run.end system.delete"; err == nil && strings.Join(actions, " ") != want {
				err = fmt.Errorf("%s, want %s", strings.Join(actions, " "), want)
			}
			return strings.Join(actions, ", "), err
		}
		for _, r := range list {
			if string(r.Actor) == "run:"+run {
				actions = append(actions, r.Action)
			}
			after = r.Seq
		}
	}
}
