package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	upstream "github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	"github.com/golang-migrate/migrate/v4/database/stub"
	file "github.com/golang-migrate/migrate/v4/source"
	source "github.com/golang-migrate/migrate/v4/source/stub"

	"github.com/dynalock/dynalock/adapters/migrate"
	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// The migrations of a program run under a lock. While they do, another process finds the database locked.
func ExampleWrap() {
	ctx := context.Background()
	server := dynalocktest.NewServer() // a program makes its client with dynamodb.NewFromConfig
	defer server.Close()
	fatal(dynalock.CreateTable(ctx, server.Client(), "locks"))
	locks, err := dynalock.New(server.Client(), "locks")
	fatal(err)

	db, err := (&stub.Stub{}).Open("stub://") // the driver of the database
	fatal(err)
	locked := migrate.Wrap(db, locks, "migrations", 5*time.Second)
	m, err := upstream.NewWithInstance("stub", migrations(), "stub", locked)
	fatal(err)
	fmt.Println(m.Up())

	fatal(locked.Lock()) // as Up does, for the example once more
	other, err := (&stub.Stub{}).Open("stub://")
	fatal(err)
	err = migrate.Wrap(other, locks, "migrations", 0).Lock() // 0: without waiting
	fmt.Println(errors.Is(err, database.ErrLocked), errors.Is(err, dynalock.ErrHeld))
	fmt.Println(locked.Unlock(), locked.Close(), locks.Close(ctx))
	// Output:
	// <nil>
	// true true
	// <nil> <nil> <nil>
}

func fatal(err error) {
	if err != nil {
		panic(err)
	}
}

// migrations are those of a program with one migration.
func migrations() file.Driver {
	files, err := (&source.Stub{}).Open("stub://")
	fatal(err)
	files.(*source.Stub).Migrations.Append(&file.Migration{Version: 1, Identifier: "CREATE 1", Direction: file.Up})
	return files
}
