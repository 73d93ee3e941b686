package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"enclave/wire"
)

// TestRelaysChange: two relays, no UDP. The one that carries a download is told to end,
// and says that everybody had moved; it comes back, and the other one is killed. Nobody
// who downloads notices.
func TestRelaysChange(t *testing.T) {
	if !alone(t) {
		return
	}
	here(t).withoutUDP()
	l := emptyLab(t)
	l.startControl("127.0.0.1:0")
	type relayProcess struct {
		*process
		args []string
	}
	relays := map[wire.RelayID]*relayProcess{}
	for _, name := range []string{"relay1", "relay2"} {
		at := freePort(t)
		r := &relayProcess{args: l.relay(name, at, "--key-file", l.key("--relay", "--uses", "1"))}
		r.process = l.start(name, r.args...)
		line := r.line(20 * time.Second)
		if !strings.Contains(line, " serves at "+at) {
			t.Fatalf("%s says %q", name, line)
		}
		relays[wire.RelayID(strings.Fields(line)[1])] = r
	}
	const size = 4 << 20
	service := serveBytes(t, size)
	forward := freePort(t)
	key := l.secret("first.key", l.up.EnrolmentKey)
	l.enrolling("web", key, "--expose", "8080="+service)
	l.enrolling("laptop", key, "--forward", forward+"=web.enclave:8080")
	l.connected(2)
	l.introduce("tcp/8080")
	l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1m")
	carrier := func() *relayProcess {
		t.Helper()
		var s struct{ Peers []struct{ Route, Via string } }
		l.decode(&s, "agent", "status", "--state", l.path("laptop"))
		if len(s.Peers) != 1 || relays[wire.RelayID(s.Peers[0].Via)] == nil {
			t.Fatalf("peers %+v", s.Peers)
		}
		return relays[wire.RelayID(s.Peers[0].Via)]
	}
	during := func(what string, do func()) {
		t.Helper()
		got := make(chan error, 1)
		begun := make(chan struct{})
		go func() { got <- fetchSlowly("http://"+forward+"/", size, begun) }()
		<-begun
		do()
		if err := <-got; err != nil {
			t.Errorf("%s: the download: %v", what, err)
		}
	}
	var said []byte
	first := carrier()
	during("drain", func() {
		first.cmd.Process.Signal(syscall.SIGTERM)
		said, _ = io.ReadAll(first.out) // until it ends
		if code := first.exits(10 * time.Second); code != 0 {
			t.Errorf("the relay that drained ends with %d", code)
		}
	})
	if rest := string(said); !strings.Contains(rest, "draining: 2 systems connected") || !strings.Contains(rest, "everybody had moved") {
		t.Errorf("the relay that drained says %q", rest)
	}
	second := carrier()
	if second == first {
		t.Fatal("still by the relay that has ended")
	}
	first.process = l.start("again", first.args...)
	if line := first.line(20 * time.Second); !strings.Contains(line, " serves at ") {
		t.Fatalf("the relay that came back says %q", line)
	}
	during("kill", func() { second.cmd.Process.Kill() })
	if carrier() != first {
		t.Error("not by the relay that is left")
	}
}

// TestARelayMoves: the only relay is started again at another address. It tells control,
// and agents without UDP find it there.
func TestARelayMoves(t *testing.T) {
	if !alone(t) {
		return
	}
	here(t).withoutUDP()
	l := emptyLab(t)
	l.startControl("127.0.0.1:0")
	serve := func(name string) (*process, string) {
		t.Helper()
		at := freePort(t)
		p := l.start(name, l.relay("relay", at, "--key-file", l.path("relay.key"))...)
		if line := p.line(20 * time.Second); !strings.Contains(line, " serves at "+at) {
			t.Fatalf("%s says %q", name, line)
		}
		return p, at
	}
	if err := os.Rename(l.key("--relay", "--uses", "1"), l.path("relay.key")); err != nil {
		t.Fatal(err)
	}
	first, _ := serve("relay")
	key := l.secret("first.key", l.up.EnrolmentKey)
	l.enrolling("web", key)
	l.enrolling("laptop", key)
	l.connected(2)
	l.introduce("icmp")
	l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1m")
	first.cmd.Process.Signal(syscall.SIGTERM)
	first.exits(10 * time.Second)
	_, at := serve("moved")
	until(t, 10*time.Second, "control knows where the relay is", func() bool { return strings.Contains(l.ok("relays", "list"), at) })
	l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1m")
	if out := l.ok("audit", "list"); strings.Count(out, "relay.move") != 1 {
		t.Errorf("the audit trail says %q", out)
	}
}

// serveBytes answers every request with size bytes.
func serveBytes(t *testing.T, size int) string {
	at := freePort(t)
	srv := &http.Server{Addr: at, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		b := make([]byte, 32<<10)
		for n := 0; n < size; n += len(b) {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})}
	go srv.ListenAndServe()
	t.Cleanup(func() { srv.Close() })
	return at
}

// fetchSlowly reads url within three seconds or so, and closes begun once bytes flow.
func fetchSlowly(url string, size int, begun chan struct{}) error {
	resp, err := http.Get(url)
	close(begun)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n := 0
	for b := make([]byte, size/300); ; {
		m, err := io.ReadFull(resp.Body, b)
		if n += m; err != nil {
			if n != size {
				return fmt.Errorf("%d of %d bytes: %w", n, size, err)
			}
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}
