package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// lab is the executable as an operator has it: separate processes on loopback.
type lab struct {
	t         *testing.T
	bin       string
	dir       string
	up        firstLine
	upProcess *process
	env       []string
}

type firstLine struct {
	URL          string `json:"url"`
	TokenFile    string `json:"token_file"`
	Fingerprint  string `json:"ca_fingerprint"`
	EnrolmentKey string `json:"enrolment_key"`
}

// binary builds the executable once for all tests of the package. A test that runs
// itself again in a namespace hands it on.
var binary = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv(binaryVariable); bin != "" {
		return bin, nil
	}
	dir, err := buildDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "enclave")
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %v\n%s", err, out)
	}
	return bin, nil
})

// buildDir is where binary builds; what removes it must not build for that.
var buildDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "enclave-e2e-") })

const binaryVariable = "ENCLAVE_E2E_BINARY"

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if dir, err := buildDir(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// newLab starts `enclave up` on free ports.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := emptyLab(t)
	l.startUp("127.0.0.1:0")
	return l
}

// emptyLab has the executable and a directory.
func emptyLab(t *testing.T) *lab {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real processes")
	}
	t.Parallel() // labs share nothing, and mostly wait
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "enclave-lab-") // short: sockets live in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &lab{t: t, bin: bin, dir: dir}
}

// startUp runs `up` and reads its first line.
func (l *lab) startUp(listen string) {
	l.t.Helper()
	l.serve(l.start("up", "up", "--json", "--state", l.path("up"), "--listen", listen, "--stun", "127.0.0.1:0"))
}

// serve reads the first line of up or control.
func (l *lab) serve(p *process) {
	l.t.Helper()
	line := p.line(10 * time.Second)
	l.up = firstLine{}
	if err := json.Unmarshal([]byte(line), &l.up); err != nil {
		l.t.Fatalf("first line of %s: %v\n%s\n%s", p.name, err, line, p.stderr())
	}
	l.upProcess = p
	l.env = []string{"ENCLAVE_URL=" + l.up.URL, "ENCLAVE_TOKEN_FILE=" + l.up.TokenFile}
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

// process is one running command.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	out  *bufio.Reader
	err  *syncBuffer
	done chan struct{}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (l *lab) start(name string, args ...string) *process {
	l.t.Helper()
	p := &process{t: l.t, name: name, cmd: exec.Command(l.bin, args...), err: &syncBuffer{}, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), l.env...)
	p.cmd.Stderr = p.err
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		p.kill()
		if l.t.Failed() {
			l.t.Logf("%s, %s, said:\n%s", name, p.cmd.ProcessState, tail(p.stderr(), 4000))
		}
	})
	return p
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func (p *process) stderr() string { return p.err.String() }

// line reads one line of stdout.
func (p *process) line(within time.Duration) string {
	p.t.Helper()
	got := make(chan string, 1)
	go func() { s, _ := p.out.ReadString('\n'); got <- s }()
	select {
	case s := <-got:
		return s
	case <-time.After(max(within, patience)):
		p.t.Fatalf("%s prints no line within %s:\n%s", p.name, within, p.stderr())
		return ""
	}
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // gone already is fine
	_ = p.cmd.Wait()
}

// interrupt is Ctrl-C; it returns the exit code.
func (p *process) interrupt() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatal(err)
	}
	return p.exits(5 * time.Second)
}

// exits waits for the process to end by itself and returns the exit code.
func (p *process) exits(within time.Duration) int {
	p.t.Helper()
	ended := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(max(within, patience)):
		p.t.Fatalf("%s does not end within %s:\n%s", p.name, within, p.stderr())
	}
	return p.cmd.ProcessState.ExitCode()
}

// run is a verb to its end.
func (l *lab) run(args ...string) (stdout, stderr string, exit int) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.bin, args...)
	cmd.Env = append(os.Environ(), l.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the exit code says it
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// ok is run that must succeed.
func (l *lab) ok(args ...string) string {
	l.t.Helper()
	out, errs, exit := l.run(args...)
	if exit != 0 {
		l.t.Fatalf("enclave %s: exit %d\n%s%s", strings.Join(args, " "), exit, out, errs)
	}
	return out
}

// decode is ok with --json.
func (l *lab) decode(v any, args ...string) {
	l.t.Helper()
	out := l.ok(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		l.t.Fatalf("enclave %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// refused is a verb that must fail: with this exit code, one object on stderr that
// has this code, and nothing on stdout.
func (l *lab) refused(exit int, code string, args ...string) string {
	l.t.Helper()
	out, errs, got := l.run(append(args, "--json")...)
	var e struct{ Code, Message string }
	if err := json.Unmarshal([]byte(errs), &e); err != nil || got != exit || e.Code != code || out != "" {
		l.t.Errorf("enclave %s: exit %d, want %d %s\nstdout %s\nstderr %s", strings.Join(args, " "), got, exit, code, out, errs)
	}
	return e.Message
}

// connected waits until so many systems are.
func (l *lab) connected(n int) []listed {
	l.t.Helper()
	var systems []listed
	until(l.t, 40*time.Second, fmt.Sprintf("%d systems connect", n), func() bool {
		l.decode(&systems, "system", "list", "--state-is", "connected")
		return len(systems) == n
	})
	return systems
}

// introduce has the policy p let the system laptop open to the system web what the rules
// say, and waits until that is in effect.
func (l *lab) introduce(rules ...string) {
	l.t.Helper()
	l.ok("tag", "add", "web", "servers")
	l.ok("tag", "add", "laptop", "laptops")
	args := []string{"policy", "create", "p", "--from", "laptops", "--to", "servers", "--wait"}
	for _, r := range rules {
		args = append(args, "--allow", r)
	}
	l.ok(args...)
}

// key creates an enrolment key and returns the file of its secret.
func (l *lab) key(args ...string) (file string) {
	l.t.Helper()
	var k struct{ ID, Secret string }
	l.decode(&k, append([]string{"key", "create", "--name", "k"}, args...)...)
	return l.secret(k.ID+".key", k.Secret)
}

// enrolling starts an agent with a key of its own.
func (l *lab) enrolling(name, keyFile string, more ...string) *process {
	l.t.Helper()
	return l.start(name, append([]string{"agent", "--state", l.path(name), "--control", l.up.URL, "--ca-fingerprint", l.up.Fingerprint, "--name", name, "--key-file", keyFile}, more...)...)
}

// secret keeps a secret in a file, as commands take it.
func (l *lab) secret(name, value string) string {
	l.t.Helper()
	file := l.path(name)
	if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return file
}

// agent starts an agent with the first enrolment key.
func (l *lab) agent(name string, more ...string) *process {
	l.t.Helper()
	args := append([]string{"agent", "--state", l.path(name), "--control", l.up.URL, "--ca-fingerprint", l.up.Fingerprint, "--name", name}, more...)
	if l.up.EnrolmentKey != "" {
		args = append(args, "--key-file", l.secret("first.key", l.up.EnrolmentKey))
	}
	return l.start(name, args...)
}

// patience is the least that anything is waited for: a loaded machine holds a process up
// for longer than any figure that says how fast it usually is, and who gets what he waits
// for does not wait longer.
const patience = time.Minute

// until polls ok; separate processes leave no one event to wait for.
func until(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(max(within, patience)); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, within)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func through(proxy string) *http.Client {
	u, _ := url.Parse(proxy)
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{Proxy: http.ProxyURL(u), DisableKeepAlives: true}}
}

func fetch(c *http.Client, url string) (int, string, error) {
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

type listed struct {
	ID, Name, State string
	Tags            []string
	IPv4            string
}

// TestOperatorsSession is the session of the README: two agents, a policy, a service
// reached by name through both proxies and a forward, everything killed and back.
func TestOperatorsSession(t *testing.T) {
	l := newLab(t)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello over the overlay") }))
	defer service.Close()
	echo := echoServer(t)

	l.agent("web", "--expose", "8080="+service.Listener.Addr().String(), "--expose", "7="+echo)
	socks, httpProxy, forward := freePort(t), freePort(t), freePort(t)
	laptop := []string{"--socks", socks, "--http-proxy", httpProxy, "--forward", forward + "=web.enclave:7"}
	laptopProcess := l.agent("laptop", laptop...)

	l.connected(2)
	if _, _, err := fetch(through("socks5h://"+socks), "http://web.enclave:8080/"); err == nil {
		t.Fatal("the service was reached without a policy")
	}
	l.ok("tag", "add", "web", "servers")
	l.ok("tag", "add", "laptop", "laptops")
	l.ok("policy", "create", "Web for laptops", "--from", "laptops", "--to", "servers", "--allow", "tcp/8080", "--allow", "tcp/7", "--wait")
	l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "20s")

	for _, proxy := range []string{"socks5h://" + socks, "http://" + httpProxy} {
		status, body, err := fetch(through(proxy), "http://web.enclave:8080/")
		if err != nil || status != 200 || body != "hello over the overlay" {
			t.Errorf("through %s: %d %q %v", proxy, status, body, err)
		}
	}
	talk(t, forward)

	out := l.ok("ping", "web", "--state", l.path("laptop"), "--count", "1")
	if !strings.Contains(out, "web (") {
		t.Errorf("ping prints %q", out)
	}
	var status struct {
		State string
		Peers []struct{ Name, Route string }
	}
	l.decode(&status, "agent", "status", "--state", l.path("laptop"))
	if status.State != "running" || len(status.Peers) != 1 || status.Peers[0].Name != "web" || status.Peers[0].Route == "none" {
		t.Errorf("agent status: %+v", status)
	}

	// Everything is killed, and comes back from its state.
	laptopProcess.kill()
	l.agent("laptop", laptop...)
	l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "20s")
	if _, body, err := fetch(through("socks5h://"+socks), "http://web.enclave:8080/"); err != nil || body != "hello over the overlay" {
		t.Errorf("after kill -9 of the laptop: %q %v", body, err)
	}

	l.ok("policy", "disable", "Web for laptops", "--wait")
	if _, _, err := fetch(through("socks5h://"+socks), "http://web.enclave:8080/"); err == nil {
		t.Error("the service is reached though the policy is disabled")
	}
}

// TestServiceComesBack: the clients of an agent that was killed and started again
// reach it well before WireGuard on their side would have noticed by itself.
func TestServiceComesBack(t *testing.T) {
	l := newLab(t)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "here") }))
	defer service.Close()
	expose, socks := "8080="+service.Listener.Addr().String(), freePort(t)
	web := l.agent("web", "--expose", expose)
	l.agent("laptop", "--socks", socks)
	until(t, 20*time.Second, "both systems enrol", func() bool {
		var systems []listed
		l.decode(&systems, "system", "list")
		return len(systems) == 2
	})
	l.introduce("tcp/8080")
	quick := through("socks5h://" + socks)
	quick.Timeout = 2 * time.Second
	reached := func() bool {
		_, body, err := fetch(quick, "http://web.enclave:8080/")
		return err == nil && body == "here"
	}
	until(t, 20*time.Second, "the service is reached", reached)
	web.kill()
	l.agent("web", "--expose", expose)
	until(t, 12*time.Second, "the service is reached again", reached)
}

// TestControlIsKilled: kill -9 of control and relay loses nothing that was
// acknowledged, and existing pairs go on meanwhile.
func TestControlIsKilled(t *testing.T) {
	l := newLab(t)
	first := l.up
	reach := l.pair()

	l.upProcess.kill()
	if err := reach(); err != nil {
		t.Errorf("while control is down: %v", err)
	}
	u, _ := url.Parse(first.URL)
	l.startUp(u.Host)
	if l.up.EnrolmentKey != "" || l.up.Fingerprint != first.Fingerprint {
		t.Errorf("after the restart: %+v, was %+v", l.up, first)
	}
	var policies []struct{ Name, State string }
	l.decode(&policies, "policy", "list")
	if len(policies) != 1 || policies[0].State != "active" {
		t.Errorf("policies after kill -9: %+v", policies)
	}
	l.connected(2)
	l.ok("policy", "disable", "p", "--wait")
	if reach() == nil {
		t.Error("the service is reached though the policy is disabled")
	}
}

// serving listens on loopback and serves each connection, until the test ends.
func serving(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go each(l, serve)
	return l.Addr().String()
}

// each serves every connection by itself, until the listener is closed.
func each(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			serve(c)
		}()
	}
}

func echoServer(t *testing.T) string {
	t.Helper()
	return serving(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
}

// talk sends a line to an echo and wants it back, with both directions closed in
// order.
func talk(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(15 * time.Second))
	fmt.Fprint(c, "there and back")
	_ = c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "there and back" {
		t.Errorf("through the forward: %q, %v", got, err)
	}
}
