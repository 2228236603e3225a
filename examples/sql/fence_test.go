package fence

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/goleak"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// env is a test with a database that has an account, and with two holders of its lock, one after the other.
type env struct {
	*testing.T

	db           *sql.DB
	older, newer *dynalock.Lock // the older one was freed by an operator, and its holder has not noticed yet
}

const account = "alice"

func setUp(t *testing.T) env {
	t.Helper()
	dsn := os.Getenv("DYNALOCK_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("DYNALOCK_TEST_POSTGRES does not say how to connect to a PostgreSQL: scripts/postgres -- go test ./...")
	}
	e := env{T: t}
	schema := "test_" + strings.ToLower(rand.Text())
	e.db = e.open(dsn + " search_path=" + schema)
	e.exec("CREATE SCHEMA " + schema)
	t.Cleanup(func() {
		_, _ = e.open(dsn).ExecContext(context.WithoutCancel(t.Context()), "DROP SCHEMA "+schema+" CASCADE")
	})
	e.exec(Schema)
	e.exec("INSERT INTO account (id, balance) VALUES ($1, 100)", account)

	server := dynalocktest.Start(t, "locks")
	e.older = e.acquire(server, "older")
	e.must(e.client(server, "operator").ForceRelease(t.Context(), e.record(server)))
	e.newer = e.acquire(server, "newer")
	if !e.older.Held() || e.newer.Token() <= e.older.Token() {
		t.Fatalf("the older holder has noticed: %v; tokens %d and %d", e.older.Err(), e.older.Token(), e.newer.Token())
	}
	return e
}

func (e env) open(dsn string) *sql.DB {
	e.Helper()
	db, err := sql.Open("pgx", dsn)
	e.must(err)
	e.Cleanup(func() { _ = db.Close() })
	return db
}

func (e env) client(server *dynalocktest.Server, owner string) *dynalock.Client {
	e.Helper()
	c, err := dynalock.New(server.ClientFor(owner), "locks", func(o *dynalock.Options) { o.Owner = owner })
	e.must(err)
	e.Cleanup(func() { _ = c.Close(context.WithoutCancel(e.Context())) })
	return c
}

func (e env) acquire(server *dynalocktest.Server, owner string) *dynalock.Lock {
	e.Helper()
	l, err := e.client(server, owner).TryAcquire(e.Context(), account, func(o *dynalock.AcquireOptions) {
		o.NoHeartbeat, o.Lease = true, time.Hour // so that nothing depends on the machine's speed
	})
	e.must(err)
	return l
}

func (e env) record(server *dynalocktest.Server) dynalock.Record {
	e.Helper()
	r, err := e.client(server, "reader").Get(e.Context(), account)
	e.must(err)
	return r
}

func (e env) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

func (e env) exec(query string, args ...any) {
	e.Helper()
	_, err := e.db.ExecContext(e.Context(), query, args...)
	e.must(err)
}

// set writes the balance under a lock's token.
func (e env) set(l *dynalock.Lock, balance int64) error {
	return SetBalance(e.Context(), e.db, l.Token(), account, balance)
}

func (e env) wantBalance(want int64) {
	e.Helper()
	var got int64
	e.must(e.db.QueryRowContext(e.Context(), "SELECT balance FROM account WHERE id = $1", account).Scan(&got))
	if got != want {
		e.Errorf("the balance is %d, want %d", got, want)
	}
}

func (e env) want(err, target error) {
	e.Helper()
	if !errors.Is(err, target) {
		e.Errorf("got %v, want %v", err, target)
	}
}

func TestAFormerHolderIsRefusedFromTheFirstWriteOfItsSuccessorOn(t *testing.T) {
	e := setUp(t)
	e.must(e.set(e.older, 1))
	e.wantBalance(1) // its successor has not written yet, and will read this
	e.must(e.set(e.newer, 2))
	e.must(e.set(e.newer, 3)) // one tenure writes as often as it likes
	e.want(e.set(e.older, 4), ErrStale)
	e.wantBalance(3)
}

func TestZeroRowsMeanAMissingRowOrANewerHolderAndTheErrorTellsWhich(t *testing.T) {
	e := setUp(t)
	e.must(e.set(e.newer, 1))
	err := e.set(e.older, 2)
	e.want(err, ErrStale)
	if errors.Is(err, sql.ErrNoRows) {
		t.Errorf("the row of a newer holder is said to be missing: %v", err)
	}
	for _, l := range []*dynalock.Lock{e.older, e.newer} {
		err := SetBalance(t.Context(), e.db, l.Token(), "bob", 2)
		e.want(err, sql.ErrNoRows)
		if errors.Is(err, ErrStale) {
			t.Errorf("a missing row is said to be written by a newer holder: %v", err)
		}
	}
}

func TestAColumnThatMayBeNullLetsNobodyWrite(t *testing.T) {
	e := setUp(t)
	e.exec("ALTER TABLE account ALTER COLUMN fence DROP NOT NULL")
	e.exec("UPDATE account SET fence = NULL")
	if err := e.set(e.newer, 1); err == nil {
		t.Error("a write passed: say in the package's documentation that NULL is harmless")
	}
	e.wantBalance(100)
}

func TestATransactionOfAFormerHolderIsRefusedAsAWhole(t *testing.T) {
	e := setUp(t)
	add := func(n int) func(tx *sql.Tx) error {
		return func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), "UPDATE account SET balance = balance + $1", n)
			return err
		}
	}
	run := func(l *dynalock.Lock, fn func(*sql.Tx) error) error {
		return Transact(t.Context(), e.db, nil, account, l.Token(), fn)
	}
	e.must(run(e.older, add(1)))
	failed := errors.New("failed")
	e.want(run(e.newer, func(tx *sql.Tx) error { return errors.Join(add(10)(tx), failed) }), failed)
	e.must(run(e.older, add(1))) // what the newer one rolled back does not count
	e.must(run(e.newer, add(10)))
	e.must(run(e.newer, add(10)))
	e.want(run(e.older, add(1)), ErrStale)
	e.wantBalance(122)
}

// The older holder's write comes while the newer one's transaction is open, and waits for its end.
func TestAWriteThatWaitsForTheSuccessorsTransactionIsJudgedByItsEnd(t *testing.T) {
	const serialization = "40001"
	repeatable := &sql.TxOptions{Isolation: sql.LevelRepeatableRead}
	for name, tt := range map[string]struct {
		opts   *sql.TxOptions // of the one that waits; nil: SetBalance
		commit bool
		want   error  // of the one that waited
		state  string // or this SQLSTATE
		ends   int64
	}{
		"an update, committed":            {nil, true, ErrStale, "", 10},
		"an update, rolled back":          {nil, false, nil, "", 1},
		"a transaction, committed":        {&sql.TxOptions{}, true, ErrStale, "", 10},
		"a transaction, rolled back":      {&sql.TxOptions{}, false, nil, "", 1},
		"repeatable read, committed":      {repeatable, true, nil, serialization, 10},
		"repeatable read and rolled back": {repeatable, false, nil, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			e := setUp(t)
			if tt.opts != nil { // the row of the lock is there: what is inserted anew is no conflict at any level
				e.must(Transact(t.Context(), e.db, nil, account, e.older.Token(), func(*sql.Tx) error { return nil }))
			}
			opened, end := make(chan struct{}), make(chan struct{})
			newer := make(chan error, 1)
			go func() {
				newer <- Transact(t.Context(), e.db, nil, account, e.newer.Token(), func(tx *sql.Tx) error {
					_, err := tx.ExecContext(t.Context(), "UPDATE account SET balance = 10, fence = $1", e.newer.Token())
					close(opened)
					<-end
					if !tt.commit {
						err = errors.Join(err, context.Canceled)
					}
					return err
				})
			}()
			<-opened
			older := make(chan error, 1)
			go func() {
				if tt.opts == nil {
					older <- e.set(e.older, 1)
					return
				}
				older <- Transact(t.Context(), e.db, tt.opts, account, e.older.Token(), func(tx *sql.Tx) error {
					_, err := tx.ExecContext(t.Context(), "UPDATE account SET balance = 1")
					return err
				})
			}()
			e.waitUntilBlocked()
			close(end)
			if err := <-newer; (err == nil) != tt.commit {
				t.Errorf("the newer holder gets %v", err)
			}
			err := <-older
			var refused *pgconn.PgError
			switch {
			case tt.state != "":
				if !errors.As(err, &refused) || refused.Code != tt.state {
					t.Errorf("the older holder gets %v, want SQLSTATE %s", err, tt.state)
				}
			case !errors.Is(err, tt.want):
				t.Errorf("the older holder gets %v, want %v", err, tt.want)
			}
			e.wantBalance(tt.ends)
		})
	}
}

// waitUntilBlocked returns when a statement of this test waits for another one.
func (e env) waitUntilBlocked() {
	e.Helper()
	for {
		var blocked bool
		e.must(e.db.QueryRowContext(e.Context(), `
			SELECT count(*) > 0 FROM pg_locks w JOIN pg_locks l ON l.pid = w.pid AND l.relation = 'account'::regclass
			OR l.pid = w.pid AND l.relation = 'lock_fence'::regclass WHERE NOT w.granted`).Scan(&blocked))
		if blocked {
			return
		}
		select {
		case <-e.Context().Done():
			e.Fatal("no statement waits")
		case <-time.After(time.Millisecond):
		}
	}
}
