package bench

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// packetSize is the inner packet that the cipher limit is measured with.
const packetSize = 1280

// ciphers is cipher on so many cores at once, which is less than so many times one.
func ciphers(cores int, each time.Duration) (float64, error) {
	rates, errs := make([]float64, cores), make([]error, cores)
	var wg sync.WaitGroup
	for i := range cores {
		wg.Go(func() { rates[i], errs[i] = cipher(each) })
	}
	wg.Wait()
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	return sum, errors.Join(errs...)
}

// cipher measures what one core can seal and open of WireGuard's AEAD, which no
// tunnel can exceed.
func cipher(each time.Duration) (float64, error) {
	aead, err := chacha20poly1305.New(make([]byte, chacha20poly1305.KeySize))
	if err != nil {
		return 0, err
	}
	nonce := make([]byte, aead.NonceSize())
	plain := make([]byte, packetSize)
	sealed := make([]byte, 0, packetSize+aead.Overhead())
	var n int64
	began := time.Now()
	for time.Since(began) < each {
		for range 256 {
			sealed = aead.Seal(sealed[:0], nonce, plain, nil)
			if _, err := aead.Open(plain[:0], nonce, sealed, nil); err != nil {
				return 0, err
			}
			n += packetSize
		}
	}
	return gbits(n, time.Since(began)), nil
}

// goodput pours bytes through streams of dial into what accept gives, for each. It calls
// mark, if that is not nil, when they are under way and again when the time is over, before
// anything is closed.
func goodput(streams int, each time.Duration, dial func() (net.Conn, error), mark func()) (float64, error) {
	conns := make([]net.Conn, streams)
	for i := range conns {
		c, err := dial()
		if err != nil {
			return 0, err
		}
		defer c.Close()
		if _, err := c.Write([]byte{pour}); err != nil {
			return 0, err
		}
		conns[i] = c
	}
	var wg sync.WaitGroup
	counts := make([]int64, streams)
	warm := time.Now().Add(each / 4) // slow start is no steady state
	end := warm.Add(each)
	if mark != nil {
		wg.Go(func() {
			for _, at := range []time.Time{warm, end} {
				time.Sleep(time.Until(at))
				mark()
			}
		})
	}
	for i, c := range conns {
		wg.Go(func() {
			buf := make([]byte, 256<<10)
			_ = c.SetReadDeadline(end)
			for now := time.Now(); now.Before(end); now = time.Now() {
				n, err := c.Read(buf)
				if now.After(warm) {
					counts[i] += int64(n)
				}
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	var total int64
	for _, n := range counts {
		total += n
	}
	return gbits(total, each), nil
}

// roundTrips measures n echoes of one byte.
func roundTrips(n int, dial func() (net.Conn, error)) ([]time.Duration, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, udp := c.LocalAddr().(*net.UDPAddr); !udp {
		if _, err := c.Write([]byte{echo}); err != nil {
			return nil, err
		}
	}
	b := [1]byte{echo}
	out := make([]time.Duration, n)
	for i := range out {
		began := time.Now()
		if _, err := c.Write(b[:]); err != nil {
			return nil, err
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return nil, err
		}
		out[i] = time.Since(began)
	}
	return out, nil
}

// What a client asks of the server with its first byte.
const (
	pour = 'p' // send without end
	echo = 'e' // send back
)

// serve answers connections until l is closed.
func serve(l net.Listener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer c.Close()
			var what [1]byte
			if _, err := io.ReadFull(c, what[:]); err != nil {
				return
			}
			if what[0] == echo {
				_, _ = io.Copy(c, c) // ends with the client
				return
			}
			for buf := make([]byte, 256<<10); ; {
				if _, err := c.Write(buf); err != nil {
					return
				}
			}
		})
	}
}
