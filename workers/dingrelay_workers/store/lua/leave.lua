-- A newer release has to run a job whose wake-up has come here.
leave_job(record, job)
