package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// behind marks the process that lives on the network behind the gateway.
const behind = "ENCLAVE_E2E_BEHIND"

// bigFile is what is downloaded through the gateway, in bytes.
const bigFile = 1 << 30

// TestBehindAGateway: real services on a network without an agent, reached through one
// that stands between, with curl, psql and ping as an operator would. The network behind
// is a namespace at the other end of a veth pair; it needs no root, but a system that lets
// users have namespaces. What is there: behind_linux_test.go. Tools that are not installed
// are named in the log.
func TestBehindAGateway(t *testing.T) {
	if os.Getenv(behind) != "" {
		serveBehind(t)
		return
	}
	if !alone(t) {
		return
	}
	dir := t.TempDir()
	services := startBehind(t, dir)
	pings := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0) == nil

	l := newLab(t)
	socks, dns, forwards := freePort(t), freePort(t), map[string]string{}
	args := []string{"--socks", socks, "--dns", dns}
	for _, port := range []string{"5432", goSSHPort, sshdPort} {
		forwards[port] = freePort(t)
		args = append(args, "--forward", forwards[port]+"="+net.JoinHostPort(behindAddr, port))
	}
	forward := forwards["5432"]
	gate := l.agent("gate")
	l.agent("laptop", args...)
	l.connected(2)
	l.ok("tag", "add", "laptop", "laptops")
	l.refused(2, "invalid", "system", "route", "add", "gate", "10.77.0.1/24")
	l.refused(2, "invalid", "system", "route", "add", "gate", "100.64.1.0/24")
	l.ok("system", "route", "add", "gate", "10.77.0.0/24", "--wait")
	l.refused(1, "conflict", "system", "route", "add", "gate", "10.77.0.0/24")
	l.ok("policy", "create", "office", "--from", "laptops", "--gateway", "gate=10.77.0.0/24", "--allow", "tcp", "--allow", "udp", "--allow", "icmp", "--wait")

	curl := func(addr string) (string, error) {
		out, err := exec.Command("curl", "-sS", "--max-time", "60", "--socks5-hostname", socks, "http://"+addr+"/").CombinedOutput()
		return string(out), err
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Log("curl is not installed")
	} else {
		if out, err := curl("10.77.0.2:8080"); err != nil || out != "hello from behind" {
			t.Errorf("curl: %q, %v", out, err)
		}
		if out, err := curl("10.77.0.1:8080"); err == nil {
			t.Errorf("the gateway's own address answers: %q", out)
		}
	}
	if pings {
		if out := l.ok("ping", "10.77.0.2", "--state", l.path("laptop"), "--count", "1"); !strings.Contains(out, "gate") {
			t.Errorf("ping says %q", out)
		}
	} else {
		t.Log("this namespace has no ping sockets")
	}
	switch _, err := exec.LookPath("psql"); {
	case !strings.Contains(services, "postgres"):
		t.Log("PostgreSQL is not installed")
	case err != nil:
		t.Log("psql is not installed")
	default:
		host, port, _ := net.SplitHostPort(forward)
		out, err := exec.Command("psql", "-h", host, "-p", port, "-U", "lab", "-d", "postgres", "-Atc", "select sum(i) from generate_series(1,100000) i").CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "5000050000" {
			t.Errorf("psql: %q, %v", out, err)
		}
	}
	clients(t, l, services, dir, socks, dns, forwards)
	figures(t, socks, gate.cmd.Process.Pid)
	url := "http://10.77.0.2:8080/big"
	if strings.Contains(services, " nginx ") {
		url = "http://" + net.JoinHostPort(behindAddr, nginxPort) + "/big"
	}
	cutDownload(t, l, socks, url)
}

// figures prints what the way through SOCKS5, two agents and the gateway carries beside a
// socket straight to the service, and what 1,000 flows cost the gateway.
func figures(t *testing.T, socks string, gate int) {
	t.Helper()
	const each = 128 << 20
	straight := func() (net.Conn, error) { return net.Dial("tcp", "10.77.0.2:8080") }
	carried := func() (net.Conn, error) { return viaSOCKS(socks, [4]byte{10, 77, 0, 2}, 8080) }
	for _, streams := range []int{1, 16} {
		var rates [2]float64
		for i, dial := range []func() (net.Conn, error){straight, carried} {
			began := time.Now()
			var g errgroup.Group
			for range streams {
				g.Go(func() error {
					c, err := dial()
					if err != nil {
						return err
					}
					defer c.Close()
					fmt.Fprintf(c, "GET /big HTTP/1.0\r\nRange: bytes=0-%d\r\n\r\n", each/streams-1)
					n, err := io.Copy(io.Discard, c)
					if err == nil && n < int64(each/streams) {
						err = io.ErrUnexpectedEOF
					}
					return err
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			rates[i] = each * 8 / 1e6 / time.Since(began).Seconds()
		}
		t.Logf("%d streams: %.0f Mbit/s through the gateway, %.0f straight, ratio %.3f", streams, rates[1], rates[0], rates[1]/rates[0])
	}
	const flows = 1000
	before := rss(t, gate)
	var g errgroup.Group
	g.SetLimit(50)
	conns := make([]net.Conn, flows)
	for i := range conns {
		g.Go(func() (err error) {
			if conns[i], err = carried(); err != nil {
				return err
			}
			fmt.Fprint(conns[i], "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			_, err = conns[i].Read(make([]byte, 12))
			return err
		})
	}
	err := g.Wait()
	t.Logf("%d flows at once: %.1f KiB of the gateway's memory for each", flows, (rss(t, gate)-before)/flows)
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// rss is the resident memory of a process in KiB.
func rss(t *testing.T, pid int) (kib float64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	fmt.Sscan(rest, &kib)
	return kib
}

// viaSOCKS connects through a SOCKS5 proxy (RFC 1928).
func viaSOCKS(proxy string, addr [4]byte, port uint16) (net.Conn, error) {
	c, err := net.Dial("tcp", proxy)
	if err != nil {
		return nil, err
	}
	c.Write([]byte{5, 1, 0})
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
		c.Close()
		return nil, err
	}
	c.Write(append(append([]byte{5, 1, 0, 1}, addr[:]...), byte(port>>8), byte(port)))
	answer := make([]byte, 10)
	if _, err := io.ReadFull(c, answer); err != nil || answer[1] != 0 {
		c.Close()
		return nil, fmt.Errorf("SOCKS answer %d: %v", answer[1], err)
	}
	return c, nil
}

// cutDownload ends the policy in the middle of a download.
func cutDownload(t *testing.T, l *lab, socks, big string) {
	t.Helper()
	proxy, _ := url.Parse("socks5h://" + socks)
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy), DisableKeepAlives: true}}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", big, nil)
	req.Header.Set("Range", fmt.Sprintf("bytes=0-%d", bigFile-1))
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent {
		t.Fatalf("%s", resp.Status)
	}
	began := time.Now()
	if _, err := io.CopyN(io.Discard, resp.Body, 32<<20); err != nil {
		t.Fatal(err)
	}
	t.Logf("%.0f Mbit/s through SOCKS5 and the gateway", 32*8.389/time.Since(began).Seconds())
	done := make(chan time.Time, 1)
	var n int64
	go func() {
		for err == nil {
			var more int64
			more, err = io.CopyN(io.Discard, resp.Body, 1<<20)
			n += more
			time.Sleep(10 * time.Millisecond) // so that no machine is done before the end
		}
		done <- time.Now()
	}()
	end := l.expires("office", 2*time.Second, time.RFC3339Nano)
	at := <-done
	if errors.Is(err, io.EOF) || n+32<<20 >= bigFile {
		t.Errorf("the download ended with %v after %d bytes", err, n)
	}
	t.Logf("the download was cut %s after the policy's end", at.Sub(end).Round(time.Millisecond))
	if _, err := client.Get("http://10.77.0.2:8080/"); err == nil {
		t.Error("a new flow opened after the end")
	}
}

// startBehind starts the process behind the gateway, joins the two networks, and returns
// what it serves.
func startBehind(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), behind+"="+dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// PostgreSQL refuses to run as root, so the process is somebody else there.
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: 0, Size: 1}},
		AmbientCaps: []uintptr{12, 10, 21}, // CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_SYS_ADMIN
		Pdeathsig:   syscall.SIGKILL,
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("no second namespace here: %v", err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	// Not by a thread that is thrown away: it may be the one that started the process, which
	// dies with it.
	err = ip("link set lo up", fmt.Sprintf("link add gw0 type veth peer name behind0 netns %d", cmd.Process.Pid),
		"addr add 10.77.0.1/24 dev gw0", "link set gw0 up")
	if err != nil {
		t.Skip(err)
	}
	fmt.Fprintln(in, "go")
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Skipf("nothing runs behind: %v", err)
	}
	t.Log("behind the gateway: ", line)
	return line
}

// serveBehind is the process behind the gateway; it ends with its standard input.
func serveBehind(t *testing.T) {
	in := bufio.NewReader(os.Stdin)
	in.ReadString('\n')
	if err := ip("link set lo up", "addr add 10.77.0.2/24 dev behind0", "link set behind0 up"); err != nil {
		t.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello from behind") })
	http.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(blank{}, 0, bigFile))
	})
	go http.ListenAndServe(":8080", nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	serves := " http " + strings.Join(serveMore(ctx, os.Getenv(behind)), " ") + " "
	if bin, _ := filepath.Glob("/usr/lib/postgresql/*/bin"); len(bin) > 0 {
		if err := postgres(ctx, bin[len(bin)-1], os.Getenv(behind)); err != nil {
			fmt.Fprintln(os.Stderr, "postgres:", err)
		} else {
			serves += "postgres "
		}
	}
	fmt.Println(serves)
	io.Copy(io.Discard, in)
}

// postgres makes a database and serves it until ctx ends.
func postgres(ctx context.Context, bin, dir string) error {
	data := filepath.Join(dir, "data")
	if out, err := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "lab", "-A", "trust", "-N").CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	hba := filepath.Join(data, "pg_hba.conf")
	if err := os.WriteFile(hba, []byte("host all all 10.77.0.0/24 trust\n"), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "-D", data, "-c", "listen_addresses=10.77.0.2", "-c", "unix_socket_directories=", "-c", "fsync=off")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("tcp", "10.77.0.2:5432")
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// blank is a file of nothing, without an end.
type blank struct{}

func (blank) ReadAt(b []byte, _ int64) (int, error) { clear(b); return len(b), nil }
