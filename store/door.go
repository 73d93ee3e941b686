package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"

	"enclave/store/seal"
)

// door makes the connections of a pool, through the file layer of the moment. While it
// is shut whoever needs a new connection waits: that is how a rotation changes the file
// under everybody without a lock on every path.
type door struct {
	make func(*seal.VFS) (driver.Connector, error)

	turn  chan struct{} // holds a token while the door is open; who takes it shuts it
	inner driver.Connector
}

func newDoor(vfs *seal.VFS, make1 func(*seal.VFS) (driver.Connector, error)) (*door, error) {
	d := &door{make: make1, turn: make(chan struct{}, 1)}
	var err error
	if d.inner, err = make1(vfs); err != nil {
		return nil, err
	}
	d.turn <- struct{}{}
	return d, nil
}

// Connect implements driver.Connector.
func (d *door) Connect(ctx context.Context) (driver.Conn, error) {
	select {
	case <-d.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	inner := d.inner
	d.turn <- struct{}{}
	return inner.Connect(ctx)
}

// Driver implements driver.Connector.
func (d *door) Driver() driver.Driver { return d.inner.Driver() }

// shut makes whoever comes wait for open.
func (d *door) shut() { <-d.turn }

// open lets them in, to files of another layer when one is given.
func (d *door) open(vfs *seal.VFS) error {
	var err error
	if vfs != nil {
		var inner driver.Connector
		if inner, err = d.make(vfs); err == nil {
			d.inner = inner
		}
	}
	d.turn <- struct{}{}
	return err
}

// pool is a set of connections that can be taken out of use at once.
type pool struct {
	*sql.DB
	door *door
	size int
}

func (p *pool) close() error {
	if p == nil {
		return nil
	}
	return p.DB.Close()
}

// conn is one of them.
type conn = *sql.Conn

// hold takes every connection of the pool, once whoever has one gives it back.
func (p *pool) hold(ctx context.Context) ([]conn, error) {
	var held []conn
	for range p.size {
		c, err := p.Conn(ctx)
		if err != nil {
			return nil, errors.Join(err, release(held))
		}
		held = append(held, c)
	}
	return held, nil
}

// release gives connections back, unless they were discarded.
func release(held []conn) error {
	var errs []error
	for _, c := range held {
		if err := c.Close(); !errors.Is(err, sql.ErrConnDone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// discard closes connections instead of giving them back.
func discard(held []conn) error {
	for _, c := range held {
		// The only way to make a pool drop a connection.
		if err := c.Raw(func(any) error { return driver.ErrBadConn }); !errors.Is(err, driver.ErrBadConn) {
			return err
		}
	}
	return nil
}

// holdPatience is how long a rotation waits for readers to come to their end before it
// lets everybody go on and tries again: nobody else reads meanwhile.
const holdPatience = 250 * time.Millisecond
