package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// alone marks the run of this test binary that lives in a network namespace.
const alone = "ENCLAVE_E2E_ALONE"

// TestWithoutUDP: on a network that lets no UDP pass, everything goes over the relay,
// and the peers know why. The network is a namespace of this test's own, with loopback
// alone and a rule that refuses UDP; it needs no root, but a system that lets users
// have namespaces, and the ip command.
func TestWithoutUDP(t *testing.T) {
	if os.Getenv(alone) == "" {
		inNamespace(t)
		return
	}
	for _, line := range []string{"link set lo up", "rule add pref 1 ipproto udp prohibit", "rule add pref 2 lookup local", "rule del pref 0"} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Skipf("ip %s: %v: %s", line, err, out)
		}
	}
	l := newLab(t)
	socks := freePort(t)
	service := l.agent("web", "--expose", "8080="+greeter(t, "hello"))
	l.agent("laptop", "--socks", socks)
	l.connected(2)
	l.ok("tag", "add", "web", "servers")
	l.ok("tag", "add", "laptop", "laptops")
	l.ok("policy", "create", "p", "--from", "laptops", "--to", "servers", "--allow", "tcp/8080", "--wait")
	works := func() {
		t.Helper()
		l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "30s")
		if !reaches(socks, "http://web.enclave:8080/", "hello") {
			t.Error("the service does not answer over the relay")
		}
		if out := l.ok("ping", "web", "--state", l.path("laptop"), "--count", "1"); !strings.Contains(out, "via relay ") {
			t.Errorf("ping says %q", out)
		}
	}
	works()
	var status agentStatus
	if l.decode(&status, "agent", "status", "--state", l.path("laptop")); len(status.Peers) != 1 || status.Peers[0].Route != "relay" || status.Peers[0].WhyNotDirect == "" {
		t.Errorf("the path to the server: %+v", status.Peers)
	}
	l.ok("policy", "disable", "p", "--wait")
	if reaches(socks, "http://web.enclave:8080/", "hello") {
		t.Error("the service is reached though the policy is disabled")
	}
	l.ok("policy", "enable", "p", "--wait")
	works()
	if strings.Contains(service.stderr(), "panic") {
		t.Error(service.stderr())
	}
}

// inNamespace runs the calling test again, alone on a network.
func inNamespace(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real processes")
	}
	t.Parallel()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), alone+"=1", binaryVariable+"="+bin)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	began := time.Now()
	out, err := cmd.CombinedOutput()
	text := string(out)
	switch {
	case cmd.ProcessState == nil:
		t.Skipf("no namespaces here: %v", err)
	case strings.Contains(text, "--- SKIP"):
		t.Skip(text)
	case err != nil || !strings.Contains(text, "--- PASS: "+t.Name()):
		t.Error(fmt.Sprintf("alone for %s: %v\n", time.Since(began), err) + text)
	default:
		t.Log(text)
	}
}
