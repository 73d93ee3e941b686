package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"enclave/e2e/world"
)

// The services on the network behind the gateway. What is a program of the system's is
// started where it is installed; ssh, the printer and the resolver are there in any case,
// in Go, speaking the same protocols.
const (
	behindAddr  = "10.77.0.2"
	goSSHPort   = "2022"
	sshdPort    = "2222"
	nginxPort   = "8081"
	printerPort = "9100"
	goDNSPort   = "5300"
)

// serveMore starts them for as long as ctx lives and returns what there is.
func serveMore(ctx context.Context, dir string) (serves []string) {
	for name, start := range map[string]func(context.Context, string) error{
		"go-sshd": goSSHD, "printer": printer, "go-dns": goDNS, "sshd": sshd, "nginx": nginx, "dnsmasq": dnsmasq,
	} {
		if err := start(ctx, dir); err != nil {
			fmt.Fprintln(os.Stderr, name+":", err)
			continue
		}
		serves = append(serves, name)
	}
	return serves
}

// keyFile is the client's ssh key; both processes know where it is.
func keyFile(dir string) string { return filepath.Join(dir, "client.key") }

func newKey(path string) (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(private)
}

// goSSHD answers every command with what it was.
func goSSHD(ctx context.Context, dir string) error {
	host, err := newKey(filepath.Join(dir, "go-host.key"))
	if err != nil {
		return err
	}
	cfg := &ssh.ServerConfig{NoClientAuth: true}
	cfg.AddHostKey(host)
	return accept(ctx, goSSHPort, func(c net.Conn) {
		conn, channels, requests, err := ssh.NewServerConn(c, cfg)
		if err != nil {
			return
		}
		defer conn.Close()
		go ssh.DiscardRequests(requests)
		for ch := range channels {
			session, requests, err := ch.Accept()
			if err != nil {
				return
			}
			for r := range requests {
				r.Reply(r.Type == "exec", nil)
				if r.Type == "exec" {
					fmt.Fprintf(session, "ran %s", r.Payload[4:])
					session.SendRequest("exit-status", false, make([]byte, 4))
					session.Close()
				}
			}
		}
	})
}

// printer takes a job until its sender has said all, then says how long it was, as
// printers with a raw port do.
func printer(ctx context.Context, _ string) error {
	return accept(ctx, printerPort, func(c net.Conn) {
		n, _ := io.Copy(io.Discard, c)
		fmt.Fprintf(c, "printed %d bytes", n)
	})
}

func accept(ctx context.Context, port string, serve func(net.Conn)) error {
	l, err := net.Listen("tcp", net.JoinHostPort(behindAddr, port))
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	go each(l, serve)
	return nil
}

// goDNS is a resolver that knows one name.
func goDNS(ctx context.Context, _ string) error {
	pc, err := net.ListenPacket("udp", net.JoinHostPort(behindAddr, goDNSPort))
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { pc.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if raw := world.AnswerDNS(buf[:n], "files.go.test.", netip.MustParseAddr(behindAddr)); raw != nil {
				pc.WriteTo(raw, from)
			}
		}
	}()
	return nil
}

// run starts a program and waits until its port answers.
func run(ctx context.Context, port string, name string, args ...string) error {
	if _, err := exec.LookPath(name); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, AmbientCaps: []uintptr{10}}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		c, err := net.Dial("tcp", net.JoinHostPort(behindAddr, port))
		if err == nil {
			return c.Close()
		}
		select {
		case err := <-ended:
			return fmt.Errorf("ended: %w", err)
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sshd runs as somebody who is not root, and lets in only that user, whom this
// namespace's own accounts name.
func sshd(ctx context.Context, dir string) error {
	for file, text := range map[string]string{"passwd": "lab:*:1000:1000::" + dir + ":/bin/sh\n", "shadow": ""} {
		own := filepath.Join(dir, file)
		if err := os.WriteFile(own, []byte(text), 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(own, "/etc/"+file, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount over /etc/%s: %w", file, err)
		}
	}
	client, err := newKey(keyFile(dir))
	if err != nil {
		return err
	}
	if _, err := newKey(filepath.Join(dir, "host.key")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "authorized"), ssh.MarshalAuthorizedKey(client.PublicKey()), 0o600); err != nil {
		return err
	}
	conf := filepath.Join(dir, "sshd.conf")
	text := fmt.Sprintf("ListenAddress %s:%s\nHostKey %s/host.key\nAuthorizedKeysFile %s/authorized\nPidFile none\nUsePAM no\nStrictModes no\n", behindAddr, sshdPort, dir, dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	return run(ctx, sshdPort, "/usr/sbin/sshd", "-D", "-e", "-q", "-f", conf)
}

func nginx(ctx context.Context, dir string) error {
	big, err := os.Create(filepath.Join(dir, "big"))
	if err != nil {
		return err
	}
	if err := big.Truncate(bigFile); err != nil {
		return err
	}
	big.Close()
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/nginx.pid; error_log stderr crit; events {}
http { access_log off; client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
server { listen %[2]s:%[3]s; root %[1]s; } }`, dir, behindAddr, nginxPort)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	return run(ctx, nginxPort, "/usr/sbin/nginx", "-c", conf, "-e", "stderr")
}

// dnsmasq is the resolver of the network behind, and of the gateway's own host.
func dnsmasq(ctx context.Context, dir string) error {
	hosts := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hosts, []byte(behindAddr+" files.lan.test www.behind.test\n10.77.0.1 gate.behind.test\n100.64.0.1 overlay.behind.test\n127.0.0.1 loop.behind.test\n"), 0o644); err != nil {
		return err
	}
	return run(ctx, "53", "/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--listen-address="+behindAddr, "--bind-interfaces",
		"--no-resolv", "--no-hosts", "--addn-hosts="+hosts, "--local=/test/", "--local-ttl=1", "--pid-file=", "--user=", "--group=", "--log-facility=-")
}

// clients reach every service as a user would: over the proxy, a forward, the stub.
func clients(t *testing.T, l *lab, services, dir, socks, dns string, ports map[string]string) {
	t.Helper()
	serves := func(name string) bool {
		if !strings.Contains(services, " "+name+" ") {
			t.Log(name + " is not installed")
			return false
		}
		return true
	}
	for _, name := range []string{"go-sshd", "printer", "go-dns"} {
		if !strings.Contains(services, " "+name+" ") {
			t.Errorf("%s did not start: %s", name, services)
		}
	}
	conn, err := ssh.Dial("tcp", ports[goSSHPort], &ssh.ClientConfig{User: "lab", HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Errorf("ssh: %v", err)
	} else {
		session, err := conn.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if out, err := session.Output("six times seven"); string(out) != "ran six times seven" || err != nil {
			t.Errorf("ssh: %q, %v", out, err)
		}
		conn.Close()
	}
	if serves("sshd") {
		host, port, _ := net.SplitHostPort(ports[sshdPort])
		cmd := exec.Command("ssh", "-F", "none", "-p", port, "-i", keyFile(dir), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "lab@"+host, "echo $((6*7)); head -c 5000000 /dev/zero | wc -c")
		if out, err := cmd.CombinedOutput(); !strings.Contains(string(out), "42\n5000000\n") {
			t.Errorf("ssh to a real sshd: %q, %v", out, err)
		}
	}

	job := bytes.Repeat([]byte("page\f"), 200_000)
	c, err := viaSOCKS(socks, [4]byte{10, 77, 0, 2}, 9100)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write(job)
	c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); string(got) != fmt.Sprintf("printed %d bytes", len(job)) || err != nil {
		t.Errorf("the printer says %q, %v", got, err)
	}

	curl := func(url string) string {
		out, err := exec.Command("curl", "-sS", "--max-time", "60", "--socks5-hostname", socks, url).CombinedOutput()
		if err != nil {
			return fmt.Sprintf("%v: %s", err, out)
		}
		return string(out)
	}
	if serves("nginx") {
		if got := curl("http://" + net.JoinHostPort(behindAddr, nginxPort) + "/authorized"); !strings.HasPrefix(got, "ssh-ed25519 ") {
			t.Errorf("nginx: %q", got)
		}
	}

	// A zone of that network, asked through the gateway.
	l.ok("dns", "zone", "create", "go.test", "--gateway", "gate", "--resolver", net.JoinHostPort(behindAddr, goDNSPort), "--wait")
	if got := curl("http://files.go.test:8080/"); got != "hello from behind" {
		t.Errorf("a name of a forwarded zone: %q", got)
	}
	if !serves("dnsmasq") {
		return
	}
	l.ok("dns", "zone", "create", "lan.test", "--gateway", "gate", "--resolver", behindAddr, "--wait")
	if got := curl("http://files.lan.test:8080/"); got != "hello from behind" {
		t.Errorf("a name of dnsmasq's: %q", got)
	}
	at, port, _ := net.SplitHostPort(dns)
	if _, err := exec.LookPath("dig"); err == nil {
		for _, kind := range []string{"+notcp", "+tcp"} {
			if out, err := exec.Command("dig", "+short", kind, "@"+at, "-p", port, "files.lan.test").CombinedOutput(); strings.TrimSpace(string(out)) != behindAddr {
				t.Errorf("dig %s: %q, %v", kind, out, err)
			}
		}
	}

	// Names in a policy's subnet filter: the gateway's host asks dnsmasq, whose answers
	// lead to the service, to the gateway itself, into the overlay and to loopback.
	conf := l.path("resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+behindAddr+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "--bind", conf, "/etc/resolv.conf").CombinedOutput(); err != nil {
		t.Logf("names in a filter are left out: %v: %s", err, out)
		return
	}
	l.refused(2, "invalid", "policy", "create", "wild", "--from", "laptops", "--gateway", "gate=10.77.0.0/24", "--subnet-filter", "*.behind.test", "--allow", "tcp")
	l.ok("system", "route", "add", "gate", "0.0.0.0/0", "--wait")
	l.ok("policy", "create", "names", "--from", "laptops", "--gateway", "gate=0.0.0.0/0", "--allow", "tcp/8080", "--wait",
		"--subnet-filter", "www.behind.test", "--subnet-filter", "gate.behind.test", "--subnet-filter", "overlay.behind.test", "--subnet-filter", "loop.behind.test")
	if got := curl("http://www.behind.test:8080/"); got != "hello from behind" {
		t.Errorf("a name in a filter: %q", got)
	}
	for _, name := range []string{"gate", "overlay", "loop", "none"} {
		if got := curl("http://" + name + ".behind.test:8080/"); !strings.Contains(got, "exit status") {
			t.Errorf("%s.behind.test: %q", name, got)
		}
	}
}
