package agent

import (
	"net"
	"sync"
)

// merged accepts from several listeners.
type merged struct {
	all    []net.Listener
	conns  chan net.Conn // unbuffered: who accepts takes it, or it is closed
	done   chan struct{}
	closed sync.Once
	wg     sync.WaitGroup
}

func merge(all []net.Listener) net.Listener {
	m := &merged{all: all, conns: make(chan net.Conn), done: make(chan struct{})}
	for _, l := range all {
		m.wg.Go(func() { m.pump(l) })
	}
	return m
}

func (m *merged) pump(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			m.shut() // one that ends takes the others along: half a service is none
			return
		}
		select {
		case m.conns <- c:
		case <-m.done:
			c.Close()
			return
		}
	}
}

func (m *merged) shut() {
	m.closed.Do(func() {
		close(m.done)
		for _, l := range m.all {
			l.Close()
		}
	})
}

// Accept returns the next connection of any of them, or net.ErrClosed once one has
// ended.
func (m *merged) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

// Close closes them all and waits for the acceptors.
func (m *merged) Close() error {
	m.shut()
	m.wg.Wait()
	return nil
}

// Addr is the first one's.
func (m *merged) Addr() net.Addr { return m.all[0].Addr() }
