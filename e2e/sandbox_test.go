package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"enclave/agent"
	"enclave/agent/link"
	"enclave/cli/client"
	"enclave/cli/node"
	"enclave/relay"
	"enclave/sandbox"
	"enclave/sandbox/session"
	"enclave/sandbox/tools"
	"enclave/wire"
	"enclave/wire/api"
)

// enclaveHere is a control plane with a relay on this machine, and two services on the
// overlay: users, which runs may reach, and vault, which they may not.
type enclaveHere struct {
	url, key string
	first    *node.First
	api      *client.Client
	agents   []*agent.Agent
}

func newEnclaveHere(t testing.TB) *enclaveHere {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stun, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	e := &enclaveHere{url: "https://" + l.Addr().String()}
	up, err := node.OpenUp(ctx, node.UpConfig{
		Control: node.ControlConfig{Dir: filepath.Join(t.TempDir(), "up"), URL: e.url, Listener: l, Logger: quiet},
		Relay: node.RelayConfig{Name: "here", Keeper: &agent.MemoryKeeper{}, Dial: (&net.Dialer{}).DialContext, Logger: quiet,
			STUN: []relay.PacketConn{stun}, Info: wire.RelayInfo{Addr: l.Addr().String(), STUN: []string{stun.LocalAddr().String()}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{}, 3)
	started := 1
	t.Cleanup(func() {
		cancel()
		for range started {
			<-ended
		}
	})
	go func() { up.Run(ctx); ended <- struct{}{} }()
	e.first = up.First()
	if e.api, err = client.New(client.Config{URL: e.url, Token: e.first.Token, Fingerprint: e.first.Fingerprint}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.api.Close() })
	for _, name := range []string{"users", "vault"} {
		key, err := e.api.CreateKey(ctx, api.KeyCreate{Name: name, Approval: "automatic", Tags: []wire.Tag{wire.Tag(name)}})
		if err != nil {
			t.Fatal(err)
		}
		a, err := agent.New(agent.Config{Name: name, Control: e.url, Fingerprint: e.first.Fingerprint, Keeper: &agent.MemoryKeeper{},
			Key: func() (string, error) { return key.Secret, nil }, Network: link.System(), Loopback: true, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		started++
		go func() { a.Run(ctx); ended <- struct{}{} }()
		ln, err := a.Listen(ctx, 8080)
		if err != nil {
			t.Fatal(err)
		}
		go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"service":%q,"run":%q,"query":%q}`, name, r.Header.Get("Enclave-Run"), r.URL.RawQuery)
		}))
		e.agents = append(e.agents, a)
	}
	key, err := e.api.CreateKey(ctx, api.KeyCreate{Name: "runs", Kind: "ephemeral", Tags: []wire.Tag{"ai", "ai-more"}})
	if err != nil {
		t.Fatal(err)
	}
	e.key = key.Secret
	_, err = e.api.CreatePolicy(ctx, wire.Policy{Name: "runs read users", Kind: wire.Direct, Enabled: true,
		SenderTags: []wire.Tag{"ai"}, ReceiverTags: []wire.Tag{"users"}, ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 8080, Hi: 8080}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// flows are those that agents report, once there are any: control waits two seconds for
// them, and on a busy machine hears of none.
func (e *enclaveHere) flows(t *testing.T) (flows []api.LiveFlow) {
	t.Helper()
	until(t, patience, "agents report a flow", func() bool {
		var err error
		if flows, err = e.api.Flows(context.Background()); err != nil {
			t.Fatal(err)
		}
		return len(flows) > 0
	})
	return flows
}

func (e *enclaveHere) runs() *node.Runs {
	return &node.Runs{Control: e.url, Fingerprint: e.first.Fingerprint, Key: func() (string, error) { return e.key, nil }, Loopback: true}
}

const overlayTools = `{"version":1,"tools":[
	{"name":"users:list","attributes":["reads"],"serve":{"overlay":{"url":"http://users.enclave:8080/users{?limit}"}}},
	{"name":"users:admin","attributes":["reads"],"serve":{"overlay":{"url":"http://users.enclave:9090/"}}},
	{"name":"vault:open","attributes":["reads","sends"],"serve":{"overlay":{"url":"http://vault.enclave:8080/"}}}]}`

// calling is a runner whose script calls the tools that it is told to, one by one.
type calling func(call func(tool, args string) (string, *sandbox.Error)) sandbox.Result

func (c calling) Run(ctx context.Context, _ sandbox.Spec, b sandbox.Broker) sandbox.Result {
	id := uint64(0)
	return c(func(tool, args string) (string, *sandbox.Error) {
		id++
		out, err := b.CallTool(ctx, sandbox.Call{ID: id, Name: tool, Args: json.RawMessage(args)})
		return string(out), err
	})
}

func TestARunReachesWhatPolicyAllowsAndIsGoneAfterwards(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a whole enclave on this machine")
	}
	e := newEnclaveHere(t)
	f, err := tools.Load([]byte(overlayTools))
	if err != nil {
		t.Fatal(err)
	}
	reg, err := tools.Open(t.Context(), f, tools.Config{})
	if err != nil {
		t.Fatal(err)
	}
	run := session.NewRunID()
	host := &session.Host{Tools: reg, Joiner: e.runs()}
	host.Runner = calling(func(call func(tool, args string) (string, *sandbox.Error)) sandbox.Result {
		out, err := call("users:list", `{"limit":3}`)
		if want := fmt.Sprintf(`{"query":"limit=3","run":%q,"service":"users"}`, run); err != nil || out != want {
			t.Errorf("users: %s, %v; want %s", out, err, want)
		}
		for _, tool := range []string{"users:admin", "vault:open"} { // another port; a system nobody introduced
			if out, err := call(tool, `{}`); err == nil || err.Message != "the service could not be reached" {
				t.Errorf("%s: %s, %v", tool, out, err)
			}
		}
		list, lerr := e.api.Systems(t.Context(), nil)
		if lerr != nil {
			t.Fatal(lerr)
		}
		i := slices.IndexFunc(list, func(s api.System) bool { return s.Name == run })
		if i < 0 || list[i].Kind != "run" || !slices.Equal(list[i].Tags, []wire.Tag{"ai"}) {
			t.Errorf("the run is not among the systems as it should be: %+v", list)
		}
		return sandbox.Result{OK: true, Value: json.RawMessage(`1`)}
	})
	res := host.Run(t.Context(), session.Request{ID: run, Join: true, Tags: []string{"ai"}, Caller: tools.Caller{User: "alice"}, Spec: sandbox.Spec{Source: "1", Level: sandbox.Strict}}, nil)
	if !res.OK {
		t.Fatalf("%+v", res.Error)
	}
	list, err := e.api.Systems(t.Context(), nil)
	if err != nil || slices.ContainsFunc(list, func(s api.System) bool { return s.Kind == "run" }) {
		t.Errorf("after its end the run is still a system: %+v, %v", list, err)
	}
	// The trail has the run under its own name, start to end.
	var actions []string
	records, err := e.api.Activity(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if strings.Contains(string(r.Actor), run) {
			actions = append(actions, r.Action)
		}
	}
	if got, want := strings.Join(actions, " "), "run.start tool.result tool.result tool.call tool.result run.end system.delete"; got != want {
		t.Errorf("records: %s\nwant     %s", got, want)
	}
}

func TestAFlowSaysWhoseRunItIs(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a whole enclave on this machine")
	}
	e := newEnclaveHere(t)
	run := session.NewRunID()
	n, err := e.runs().Join(t.Context(), run, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	c, err := n.DialContext(t.Context(), "tcp", "users.enclave:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	flows := e.flows(t)
	if len(flows) != 1 || flows[0].Run != run || flows[0].From != wire.SystemID(n.System()) {
		t.Errorf("flows %+v", flows)
	}
}

func TestAKeyBoundsTheTagsOfItsRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a whole enclave on this machine")
	}
	e := newEnclaveHere(t)
	r := e.runs()
	for _, tags := range [][]string{{"users"}, {"ai", "vault"}, {"Not A Tag"}} {
		if n, err := r.Join(t.Context(), session.NewRunID(), tags); err == nil {
			n.Close()
			t.Errorf("joined with tags %v", tags)
		}
	}
	general, err := e.api.CreateKey(t.Context(), api.KeyCreate{Name: "general", Approval: "automatic", Tags: []wire.Tag{"ai"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Key = func() (string, error) { return general.Secret, nil }
	if n, err := r.Join(t.Context(), session.NewRunID(), nil); err == nil {
		n.Close()
		t.Error("joined with a key that is not ephemeral")
	}
}

func TestARunThatCrashesIsGoneSoon(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a whole enclave on this machine, and waits for the retention of a run")
	}
	e := newEnclaveHere(t)
	ctx, crash := context.WithCancel(context.Background())
	defer crash()
	a, err := agent.New(agent.Config{Name: "run-that-crashes", Control: e.url, Fingerprint: e.first.Fingerprint, Keeper: &agent.MemoryKeeper{},
		Key: func() (string, error) { return e.key, nil }, Network: link.System(), Loopback: true, Run: &wire.RunInfo{}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	if _, err := a.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	users := e.agents[0]
	knows := func(want bool) {
		t.Helper()
		limit := time.After(wire.RunRetention + 20*time.Second)
		for {
			changed := users.Changed()
			if slices.Contains(users.Keys(), a.PublicKey()) == want {
				return
			}
			select {
			case <-changed:
			case <-limit:
				t.Fatalf("the users service knows the run: want %v", want)
			}
		}
	}
	knows(true)
	crash()
	<-ended
	knows(false)
	list, err := e.api.Systems(t.Context(), nil)
	if err != nil || slices.ContainsFunc(list, func(s api.System) bool { return s.Kind == "run" }) {
		t.Errorf("a run that left without a word is still a system: %+v, %v", list, err)
	}
}

func BenchmarkJoin(b *testing.B) {
	e := newEnclaveHere(b)
	r := e.runs()
	var joins, calls, leaves []time.Duration
	for b.Loop() {
		t0 := time.Now()
		n, err := r.Join(b.Context(), session.NewRunID(), []string{"ai"})
		if err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		c, err := n.DialContext(b.Context(), "tcp", "users.enclave:8080")
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
		t2 := time.Now()
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
		joins, calls, leaves = append(joins, t1.Sub(t0)), append(calls, t2.Sub(t1)), append(leaves, time.Since(t2))
	}
	for name, list := range map[string][]time.Duration{"join": joins, "dial": calls, "leave": leaves} {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Microseconds())/1000, name+"-p50-ms")
	}
}
