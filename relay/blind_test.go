package relay

import (
	"bytes"
	"crypto/rand"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"enclave/wire/frame"
)

// TestPayloadsPassUntouched captures what comes out and compares it with what went
// in, for payloads that look like everything the relay could be tempted to read.
func TestPayloadsPassUntouched(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, w *world) {
		alice, bob := w.connect("alice", true), w.connect("bob00", true)
		alice.open(w.ticket("alice", "bob00", time.Hour))
		alice.take()
		noise := make([]byte, frame.MaxPayload)
		rand.Read(noise)
		payloads := []string{
			string(noise), string(noise[:1]), string(noise[:1420]),
			string(make([]byte, 1420)),
			"\x04\x00\x00\x00" + string(noise[:60]), // WireGuard transport data
			"\x01\x00\x00\x00" + string(noise[:144]),
			"\x16\x03\x01\x02\x00\x01" + string(noise[:100]), // TLS
			"\x45\x00\x00\x54" + string(noise[:80]),          // IPv4
			string(frame.AppendDrain(nil, time.Hour)),
			string(w.ticket("alice", "carol", time.Hour)),
			"GET / HTTP/1.1\r\n\r\n",
		}
		for i := range 256 {
			payloads = append(payloads, string([]byte{byte(i)}))
		}
		for i, p := range payloads {
			alice.send(bob, p)
			if i%32 == 0 {
				synctest.Wait()
			}
		}
		all := bob.take()
		if len(all) != len(payloads) {
			t.Fatalf("%d of %d arrived", len(all), len(payloads))
		}
		for i, g := range all {
			if want := string(alice.id[:]) + payloads[i]; g.Type != frame.Recv || g.body != want {
				t.Errorf("payload %d of %d bytes was changed", i, len(payloads[i]))
			}
		}
		w.counted("forwarded_frames", uint64(len(payloads)))
	})
}

// TestNoPlainTextAtTheRelay seals a canary as the data plane does and looks for it in
// the buffers the relay used: every byte that it held of the conversation.
func TestNoPlainTextAtTheRelay(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, w *world) {
		key := make([]byte, chacha20poly1305.KeySize) // shared by alice and bob alone
		rand.Read(key)
		aead, err := chacha20poly1305.New(key)
		if err != nil {
			t.Fatal(err)
		}
		canary := []byte("canary: the launch code is 0000")
		nonce := make([]byte, aead.NonceSize())
		sealed := aead.Seal(nil, nonce, canary, nil)

		alice, bob := w.connect("alice", true), w.connect("bob00", false)
		alice.open(w.ticket("alice", "bob00", time.Hour))
		alice.take()
		c := w.srv.roster.clients[bob.id]
		alice.send(bob, strings.Repeat("x", 70)) // occupies the writer: bob does not read yet
		synctest.Wait()
		alice.send(bob, string(sealed))
		synctest.Wait()
		c.queue.mu.Lock()
		held := bytes.Clone(c.queue.waiting.b)
		c.queue.mu.Unlock()
		if !bytes.Contains(held, sealed) {
			t.Fatal("the capture does not hold the conversation")
		}
		if bytes.Contains(held, canary) || bytes.Contains(held, key) {
			t.Error("the relay holds plain text")
		}
		go bob.listen()
		all := bob.take()
		_, payload, err := frame.ParsePacket([]byte(all[len(all)-1].body))
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := aead.Open(nil, nonce, payload, nil); err != nil || !bytes.Equal(plain, canary) {
			t.Errorf("bob reads %q, %v", plain, err)
		}
	})
}

// TestNothingImportedCouldRead holds the relay to what it may import. There is no
// packet parser and no cipher among it: a change that would look into payloads has
// to come past this list.
func TestNothingImportedCouldRead(t *testing.T) {
	allowed := []string{
		"container/list", "context", "crypto/ed25519", "crypto/tls", "encoding/binary", "errors", "fmt", "hash/maphash", "io",
		"log/slog", "math/rand/v2", "net", "net/netip", "slices", "sync", "sync/atomic", "syscall", "time",
		"enclave/passage", "enclave/wire", "enclave/wire/frame", "enclave/wire/svid", "enclave/wire/ticket",
		"github.com/prometheus/client_golang/prometheus", "golang.org/x/time/rate", "tailscale.com/net/stun",
	}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			if path, _ := strconv.Unquote(imp.Path.Value); !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}
