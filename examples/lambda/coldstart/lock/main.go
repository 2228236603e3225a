// Lock is a function that does its work under a lock: what coldstart measures.
package main

import (
	"context"
	"log"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/dynalock/dynalock/dynalock"
)

func main() {
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	locks, err := dynalock.New(dynamodb.NewFromConfig(cfg), os.Getenv("DYNALOCK_TABLE"))
	if err != nil {
		log.Fatal(err)
	}
	lambda.Start(func(ctx context.Context) error {
		_, err := locks.Once(ctx, "report", "1", func(context.Context, *dynalock.Lock) error { return nil })
		return err
	})
}
