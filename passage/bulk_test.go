package passage

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// counted counts the calls to the connection that it is.
type counted struct {
	net.Conn
	reads, writes atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	c.reads.Add(1)
	return c.Conn.Read(b)
}

func (c *counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// TestBulkIsTheSameStream: whatever the sizes, and whatever is held, bytes arrive as they
// were written.
func TestBulkIsTheSameStream(t *testing.T) {
	for seed := range uint64(20) {
		a, z := net.Pipe()
		out, in := NewBulk(a), NewBulk(z)
		rng := rand.New(rand.NewPCG(seed, 1))
		want := make([]byte, 1<<20)
		for i := range want {
			want[i] = byte(rng.Uint32())
		}
		go func() {
			defer a.Close()
			for left := want; len(left) > 0; {
				if rng.IntN(3) == 0 {
					out.Hold()
				}
				n := min(len(left), 1+rng.IntN(40<<10))
				if _, err := out.Write(left[:n]); err != nil {
					t.Error(err)
					return
				}
				if left = left[n:]; rng.IntN(4) == 0 || len(left) == 0 {
					if err := out.Flush(); err != nil {
						t.Error(err)
						return
					}
				}
			}
		}()
		var got []byte
		sizes := rand.New(rand.NewPCG(seed, 2))
		for {
			b := make([]byte, 1+sizes.IntN(30<<10))
			n, err := in.Read(b)
			got = append(got, b[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("seed %d: %d bytes of %d came, or others", seed, len(got), len(want))
		}
		if in.in != nil && !in.much {
			t.Error("a buffer is held though little comes")
		}
	}
}

// TestBulkAsksTheKernelSeldom: four records are one write, and much is read at once.
func TestBulkAsksTheKernelSeldom(t *testing.T) {
	a, z := net.Pipe()
	c, s := &counted{Conn: a}, &counted{Conn: z}
	out, in := NewBulk(c), NewBulk(s)
	before := 0
	in.BeforeRead = func() { before++ }
	go func() {
		for range 8 {
			out.Hold()
			for range 4 {
				out.Write(make([]byte, 16<<10))
			}
			if err := out.Flush(); err != nil {
				t.Error(err)
			}
		}
		a.Close()
	}()
	if n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{in}, make([]byte, 16<<10)); n != 8*64<<10 || err != nil {
		t.Fatal(n, err)
	}
	if w, r := c.writes.Load(), s.reads.Load(); w != 8 || r > 14 {
		t.Errorf("%d writes, %d reads for eight times four records", w, r)
	}
	if int64(before) != s.reads.Load() {
		t.Errorf("told of %d reads of %d", before, s.reads.Load())
	}
}

// TestBulkNeverBlocksAnAlert: while a flush waits for a peer that takes nothing, what TLS
// has to say is taken, and goes after it; too much is refused.
func TestBulkNeverBlocksAnAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, z := net.Pipe()
		b := NewBulk(a)
		b.Hold()
		b.Write([]byte("records"))
		flushed := make(chan error, 1)
		go func() { flushed <- b.Flush() }()
		synctest.Wait()
		if n, err := b.Write([]byte(" alert")); n != 6 || err != nil {
			t.Error(n, err)
		}
		if _, err := b.Write(make([]byte, maxBeside)); err == nil {
			t.Error("a flood beside a flush was taken")
		}
		got := make([]byte, 13)
		if _, err := io.ReadFull(z, got); err != nil || string(got) != "records alert" {
			t.Errorf("%q, %v", got, err)
		}
		if err := <-flushed; err != nil {
			t.Error(err)
		}
		z.Close()
		b.Hold()
		b.Write([]byte("lost"))
		if err := b.Flush(); !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
		if _, err := b.Write([]byte("after")); !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	})
}

func TestNoBulk(t *testing.T) {
	a, _ := net.Pipe()
	b := BulkOf(a)
	b.Hold()
	if err := b.Flush(); b != nil || err != nil {
		t.Error(b, err)
	}
}
