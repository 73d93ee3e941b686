package e2e

import (
	endian "encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// aloneVariable marks the run of this test binary that lives in a network namespace.
const aloneVariable = "ENCLAVE_E2E_ALONE"

// alone runs the calling test again in a network namespace of its own, and reports
// whether this is that run: the other has nothing left to do.
func alone(t *testing.T) bool {
	if os.Getenv(aloneVariable) != "" {
		return true
	}
	if testing.Short() {
		t.Skip("starts real processes")
	}
	t.Parallel()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=8m")
	cmd.Env = append(os.Environ(), aloneVariable+"=1", binaryVariable+"="+bin)
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
	return false
}

// namespace is a network of its own, for as long as its file is open. Whatever runs in do
// opens its sockets and starts its processes there.
type namespace struct {
	t    *testing.T
	file *os.File
}

// here is the network that the test runs on.
func here(t *testing.T) *namespace {
	t.Helper()
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { f.Close() })
	return &namespace{t, f}
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	var f *os.File
	onThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			f, err = os.Open("/proc/thread-self/ns/net")
		}
		if err != nil {
			t.Logf("no namespace: %v", err)
		}
		return err
	})
	if f == nil {
		t.Skip("no network namespaces here")
	}
	t.Cleanup(func() { f.Close() })
	n := &namespace{t, f}
	n.ip("link set lo up")
	return n
}

// onThread runs f on a thread that is thrown away, so that no other goroutine ever finds
// itself on its network.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()            // and never unlocked: the thread ends with the goroutine
		err := errors.New("f has failed") // the test, and ended its goroutine
		defer func() { done <- err }()
		err = f()
	}()
	return <-done
}

func (n *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace: %w", err)
		}
		return f()
	})
}

// ip runs the ip command there. A system that has less than it takes skips the test.
func (n *namespace) ip(lines ...string) {
	n.t.Helper()
	if err := n.do(func() error { return ip(lines...) }); err != nil {
		n.t.Skip(err)
	}
}

// ip runs the ip command for each line.
func ip(lines ...string) error {
	for _, line := range lines {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	return nil
}

// withoutUDP lets no UDP out, on loopback alone.
func (n *namespace) withoutUDP() {
	n.t.Helper()
	n.ip("link set lo up", "rule add pref 1 ipproto udp prohibit", "rule add pref 2 lookup local", "rule del pref 0")
}

// write sets a value of /proc/sys, which shows the network of whoever looks.
func (n *namespace) write(file, value string) {
	n.t.Helper()
	if err := n.do(func() error { return os.WriteFile(file, []byte(value), 0) }); err != nil {
		n.t.Skip(err)
	}
}

// nft makes the packet filter's rules those of the text.
func (n *namespace) nft(rules string) {
	n.t.Helper()
	err := n.do(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader("flush ruleset\n" + rules)
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
	if err != nil {
		n.t.Skipf("nft: %v", err)
	}
}

// flush has the NAT forget every mapping: nfnetlink's conntrack table, message "delete"
// without saying what (linux/netfilter/nfnetlink_conntrack.h).
func (n *namespace) flush() {
	n.t.Helper()
	err := n.do(func() error {
		s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		b := make([]byte, 20) // header of 16, and a generic one of 4 that says any family
		endian.NativeEndian.PutUint32(b, 20)
		endian.NativeEndian.PutUint16(b[4:], 1<<8|2)
		endian.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
		if err := unix.Sendto(s, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		answer := make([]byte, 4096)
		k, _, err := unix.Recvfrom(s, answer, 0)
		if err != nil || k < 20 {
			return fmt.Errorf("flush: %d bytes, %w", k, err)
		}
		if code := int32(endian.NativeEndian.Uint32(answer[16:])); code != 0 {
			return unix.Errno(-code)
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
}
