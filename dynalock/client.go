package dynalock

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/dynalock/dynalock/heartbeat"
)

// Client takes, keeps and releases locks in one table. It is safe for concurrent use. A process needs one client per
// table and namespace. A client runs a constant number of goroutines while it holds locks, however many, and while it
// may still retry a release. At other times it runs none.
type Client struct {
	opt       Options
	store     *store
	tasks     *tasks
	roster    *roster
	line      *line
	sightings *sightings
	sched     *heartbeat.Scheduler
	isClosed  chan struct{} // Close is done
}

// New makes a client for a table. It does no I/O. If options are bad, the error names every bad field and matches
// [ErrInvalid].
func New(db DynamoDB, table string, optFns ...func(*Options)) (*Client, error) {
	var o Options
	apply(&o, optFns)
	var errs []error
	if client, ok := db.(*dynamodb.Client); db == nil || ok && client == nil {
		errs = append(errs, errors.New("db is nil, allowed: a DynamoDB client"))
	}
	if table == "" {
		errs = append(errs, errors.New("table is empty, allowed: the name or ARN of a table"))
	}
	if err := o.validate(); err != nil {
		errs = append(errs, err)
	}
	if err := invalid(errs); err != nil {
		return nil, err
	}
	if o.Owner == "" {
		o.Owner = defaultOwner()
	}
	c := &Client{
		opt: o, sched: heartbeat.New(func(h *heartbeat.Options) { h.Clock = o.clock }),
		isClosed: make(chan struct{}),
	}
	c.tasks = newTasks(&c.opt)
	c.roster = newRoster(c.tasks)
	c.sightings = &sightings{now: c.tasks.now, watches: map[string]watch{}}
	c.line = newLine(&c.opt, c.tasks, c.sightings)
	c.store = &store{db: db, table: table, opt: &c.opt, credentials: credentialsOf(db), tasks: c.tasks, retrying: c.emit}
	return c, nil
}

// defaultOwner is host/pid/random.
func defaultOwner() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "unknown-host"
	}
	var b [3]byte
	rand.Read(b[:]) //nolint:errcheck // never fails: it aborts the process
	return fmt.Sprintf("%.200s/%d/%s", host, os.Getpid(), hex.EncodeToString(b[:]))
}

// Options are the client's options with their defaults filled in.
func (c *Client) Options() Options { return c.opt }

// Table is the name of the client's table.
func (c *Client) Table() string { return c.store.table }

// now reads the client's monotonic clock, the only clock that a waiter trusts.
func (c *Client) now() time.Duration { return c.tasks.now() }
