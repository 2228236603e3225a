package goose_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"

	upstream "github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"github.com/dynalock/dynalock/adapters/goose"
	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// Two replicas start at the same time. Their migrations run one after the other, and the second has nothing to do.
func ExampleNewLocker() {
	ctx := context.Background()
	server := dynalocktest.NewServer() // a program makes its client with dynamodb.NewFromConfig
	defer server.Close()
	fatal(dynalock.CreateTable(ctx, server.Client(), "locks"))
	locks, err := dynalock.New(server.Client(), "locks", func(o *dynalock.Options) { o.Owner = "replica 1" })
	fatal(err)

	migration := upstream.NewGoMigration(1, &upstream.GoFunc{RunDB: func(ctx context.Context, _ *sql.DB) error {
		record, err := locks.Get(ctx, "migrations")
		fmt.Println("migrating; the lock is held by", record.Owner)
		return err
	}}, nil)
	db, versions := sql.OpenDB(noDatabase{}), &memory{} // a program has a database, and a dialect instead of WithStore
	for range 2 {
		provider, err := upstream.NewProvider(upstream.DialectCustom, db, nil, upstream.WithStore(versions),
			upstream.WithGoMigrations(migration),
			upstream.WithLocker(goose.NewLocker(locks, "migrations")))
		fatal(err)
		ran, err := provider.Up(ctx)
		fmt.Println(len(ran), err)
	}
	fmt.Println(db.Close(), locks.Close(ctx))
	// Output:
	// migrating; the lock is held by replica 1
	// 1 <nil>
	// 0 <nil>
	// <nil> <nil>
}

func fatal(err error) {
	if err != nil {
		panic(err)
	}
}

// memory is a table of versions that needs no database.
type memory struct {
	versions []*database.ListMigrationsResult
}

func (*memory) Tablename() string { return "versions" }

func (*memory) CreateVersionTable(context.Context, database.DBTxConn) error { return nil }

func (m *memory) Insert(_ context.Context, _ database.DBTxConn, r database.InsertRequest) error {
	applied := &database.ListMigrationsResult{Version: r.Version, IsApplied: true}
	m.versions = append([]*database.ListMigrationsResult{applied}, m.versions...)
	return nil
}

func (*memory) Delete(context.Context, database.DBTxConn, int64) error {
	return database.ErrNotImplemented
}

func (m *memory) GetMigration(
	_ context.Context, _ database.DBTxConn, version int64,
) (*database.GetMigrationResult, error) {
	for _, v := range m.versions {
		if v.Version == version {
			return &database.GetMigrationResult{IsApplied: true}, nil
		}
	}
	return nil, database.ErrVersionNotFound
}

func (m *memory) GetLatestVersion(context.Context, database.DBTxConn) (int64, error) {
	if len(m.versions) == 0 {
		return 0, database.ErrVersionNotFound
	}
	return m.versions[0].Version, nil
}

func (m *memory) ListMigrations(context.Context, database.DBTxConn) ([]*database.ListMigrationsResult, error) {
	return m.versions, nil
}

// noDatabase has connections that nothing is sent on.
type noDatabase struct{}

func (noDatabase) Connect(context.Context) (driver.Conn, error) { return noDatabase{}, nil }
func (noDatabase) Driver() driver.Driver                        { return nil }
func (noDatabase) Prepare(string) (driver.Stmt, error)          { return nil, driver.ErrSkip }
func (noDatabase) Begin() (driver.Tx, error)                    { return noDatabase{}, nil }
func (noDatabase) Commit() error                                { return nil }
func (noDatabase) Rollback() error                              { return nil }
func (noDatabase) Close() error                                 { return nil }
