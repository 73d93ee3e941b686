// Command bench measures the product's relay beside tailscale's, on this machine and in
// one run. It is a module of its own, so that the product depends on nothing of it:
//
//	cd docs/bench && go run . --rounds 5 --each 2s
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"tailscale.com/derp"
	"tailscale.com/derp/derpserver"
	"tailscale.com/types/key"

	"enclave/e2e/bench"
)

func main() {
	cfg := bench.Config{Child: []string{"child"}, Progress: os.Stderr}
	flag.IntVar(&cfg.Rounds, "rounds", 5, "how many rounds the medians are taken from")
	flag.DurationVar(&cfg.Each, "each", 2*time.Second, "length of one measurement")
	flag.Parse()
	if err := run(context.Background(), cfg); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, cfg bench.Config) error {
	if flag.Arg(0) == "child" {
		return bench.Child(ctx, os.Stdin, os.Stdout, tailscale())
	}
	res, err := bench.RelayBeside(ctx, cfg, tailscale())
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(res)
}

// tailscale is the DERP server as its library gives it: on TLS, behind the reader and
// writer that net/http would hand it, without the HTTP upgrade before.
func tailscale() bench.Carrier {
	const headerLen = 1 + 4
	keys := make([]key.NodePrivate, 256)
	for i := range keys {
		keys[i] = key.NewNode()
	}
	return bench.Carrier{
		Name: "tailscale's relay",
		Serve: func(ctx context.Context, l net.Listener, side *bench.RelaySide) error {
			cert, err := side.Certificate()
			if err != nil {
				return err
			}
			s := derpserver.New(key.NewNode(), func(string, ...any) {})
			defer s.Close()
			defer context.AfterFunc(ctx, func() { l.Close() })()
			l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS13})
			for {
				c, err := l.Accept()
				if err != nil {
					return nil
				}
				go s.Accept(ctx, c, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c)), c.RemoteAddr().String())
			}
		},
		Join: func(c *tls.Conn, i int, _ []byte) error {
			in := bufio.NewReader(c)
			if _, err := derp.NewClient(keys[i], c, bufio.NewReadWriter(in, bufio.NewWriter(c)), func(string, ...any) {}); err != nil {
				return err
			}
			head, err := in.Peek(headerLen)
			if err != nil {
				return err
			}
			if derp.FrameType(head[0]) != derp.FrameServerInfo {
				return fmt.Errorf("derp sent type %d", head[0])
			}
			if _, err := in.Discard(headerLen + int(binary.BigEndian.Uint32(head[1:]))); err != nil {
				return err
			}
			if in.Buffered() > 0 {
				return errors.New("derp sent more than it should yet")
			}
			return nil
		},
		Append: func(b []byte, i int, payload []byte) []byte {
			to := keys[i^1].Public().Raw32()
			b = append(b, byte(derp.FrameSendPacket))
			b = binary.BigEndian.AppendUint32(b, uint32(len(to)+len(payload)))
			return append(append(b, to[:]...), payload...)
		},
		Next: func(b []byte) (int, bool) {
			if len(b) < headerLen {
				return 0, false
			}
			n := headerLen + int(binary.BigEndian.Uint32(b[1:]))
			if len(b) < n {
				return 0, false
			}
			return n, derp.FrameType(b[0]) == derp.FrameRecvPacket
		},
	}
}
